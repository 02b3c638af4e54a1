-- Who has how much. System accounts may go below zero; nobody else can.
CREATE TABLE accounts (
	id {key} NOT NULL PRIMARY KEY,
	is_system {int} NOT NULL,
	balance {int} NOT NULL,
	held {int} NOT NULL,
	seq {int} NOT NULL,
	head {blob} NOT NULL,
	CONSTRAINT accounts_held CHECK (held >= 0),
	CONSTRAINT accounts_covered CHECK (is_system = 1 OR balance >= held)
) {table clustered}
--;
-- Every movement of credit, on the statement of its owner. Rows are only added.
-- The defaults are those of a charge, so that the commonest row is short to write.
CREATE TABLE entries (
	owner {key} NOT NULL,
	seq {int} NOT NULL,
	debit {key} NOT NULL,
	credit {key} NOT NULL DEFAULT 'sales',
	amount {int} NOT NULL,
	balance_after {int} NOT NULL,
	kind {id} NOT NULL DEFAULT 'usage',
	ref {key} NOT NULL,
	made_at {int} NOT NULL,
	reason {text} NOT NULL DEFAULT (''),
	price {id} NOT NULL,
	budget {key} NOT NULL DEFAULT '',
	detail {text} NOT NULL,
	hash {blob} NOT NULL,
	PRIMARY KEY (owner, seq),
	UNIQUE (kind, ref),
	CONSTRAINT entries_amount CHECK (amount > 0)
) {table clustered}
--;
--sqlite: CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are only added'); END
--;
--sqlite: CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are only added'); END
--;
--postgres: CREATE FUNCTION entries_only_added() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''entries are only added''; END'
--;
--postgres: CREATE TRIGGER entries_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION entries_only_added()
--;
-- MySQL's triggers are made by store.Ledger.Protect: they need a right that
-- not every operator has.
-- What a key with a spending limit may spend, and has.
CREATE TABLE budgets (
	id {id} NOT NULL PRIMARY KEY,
	cap {int} NOT NULL,
	spent {int} NOT NULL,
	held {int} NOT NULL,
	CONSTRAINT budgets_held CHECK (held >= 0),
	CONSTRAINT budgets_spent CHECK (spent >= 0),
	CONSTRAINT budgets_covered CHECK (cap - spent >= held)
) {table clustered}
--;
-- The runs of replicas that hold leases. A beat that stands still is a death.
CREATE TABLE nodes (
	id {id} NOT NULL PRIMARY KEY,
	folder {id} NOT NULL,
	beat {int} NOT NULL
) {table clustered}
--;
-- What replicas have set aside. The sum over an account's leases is its held.
CREATE TABLE leases (
	node {id} NOT NULL,
	scope {id} NOT NULL,
	subject {key} NOT NULL,
	amount {int} NOT NULL,
	PRIMARY KEY (node, scope, subject),
	CONSTRAINT leases_amount CHECK (amount >= 0)
) {table clustered}
--;
-- What running requests owe so far.
CREATE TABLE checkpoints (
	request {key} NOT NULL PRIMARY KEY,
	node {id} NOT NULL,
	account {key} NOT NULL,
	budget {key} NOT NULL,
	amount {int} NOT NULL,
	beyond {int} NOT NULL,
	price {id} NOT NULL,
	detail {text} NOT NULL,
	made_at {int} NOT NULL,
	CONSTRAINT checkpoints_amount CHECK (amount >= 0 AND beyond >= 0)
) {table clustered}
--;
CREATE INDEX checkpoints_node ON checkpoints (node, request)
--;
-- Every price that was ever charged, as it was then.
CREATE TABLE prices (
	version {id} NOT NULL PRIMARY KEY,
	model {name} NOT NULL,
	data {text} NOT NULL
) {table clustered}
