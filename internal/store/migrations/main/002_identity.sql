-- lower_name is the name in lower case: what makes names unique and is looked
-- up at sign-in. password is a PHC hash.
CREATE TABLE users (
	id {id} NOT NULL PRIMARY KEY,
	name {name} NOT NULL,
	lower_name {name} NOT NULL,
	role {id} NOT NULL,
	password {text} NOT NULL,
	disabled {int} NOT NULL,
	created_at {int} NOT NULL
) {table}
--;
CREATE UNIQUE INDEX users_lower_name ON users (lower_name)
--;
-- hash is the SHA-256 of the session's secret, in hexadecimal.
CREATE TABLE sessions (
	hash {id} NOT NULL PRIMARY KEY,
	user_id {id} NOT NULL,
	created_at {int} NOT NULL,
	seen_at {int} NOT NULL
) {table clustered}
--;
CREATE INDEX sessions_user ON sessions (user_id)
--;
-- hash is the SHA-256 of the key, in hexadecimal. models and limits are JSON.
-- A key with a spend_limit (nano-credits) has a row of its ID in budgets.
CREATE TABLE api_keys (
	id {id} NOT NULL PRIMARY KEY,
	user_id {id} NOT NULL,
	hash {id} NOT NULL,
	name {name} NOT NULL,
	tail {id} NOT NULL,
	models {text} NOT NULL,
	spend_limit {int},
	limits {text} NOT NULL,
	created_at {int} NOT NULL,
	expires_at {int},
	revoked_at {int}
) {table}
--;
CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash)
--;
CREATE INDEX api_keys_user ON api_keys (user_id, id)
--;
-- What the console configured: bricks and upstreams. sealed is the whole JSON
-- configuration under the master key.
CREATE TABLE instances (
	kind {key} NOT NULL,
	name {name} NOT NULL,
	sealed {blob} NOT NULL,
	created_at {int} NOT NULL,
	updated_at {int} NOT NULL,
	PRIMARY KEY (kind, name)
) {table}
