-- One row for each model request. Request IDs sort by time; took_us is in
-- microseconds, cost in nano-credits. What is neither searched for nor summed
-- is in detail, as JSON: its members are those of store.detail, "first" (until
-- the first event) in microseconds, "key" and "name" of the attempt that
-- answered.
CREATE TABLE usage_rows (
	request {id} NOT NULL PRIMARY KEY,
	began_at {int} NOT NULL,
	user_id {id} NOT NULL,
	key_id {id} NOT NULL,
	model {name} NOT NULL,
	state {id} NOT NULL,
	in_tokens {int} NOT NULL,
	out_tokens {int} NOT NULL,
	cost {int} NOT NULL,
	took_us {int} NOT NULL,
	detail {text} NOT NULL
) {table clustered}
--;
CREATE INDEX usage_rows_user ON usage_rows (user_id, request)
--;
-- The calls to upstreams of each request that took more than one, or whose
-- only one failed. An only one that answered is told by the usage row.
CREATE TABLE attempts (
	request {id} NOT NULL,
	seq {int} NOT NULL,
	upstream {name} NOT NULL,
	upstream_key {int} NOT NULL,
	model {name} NOT NULL,
	fault {int} NOT NULL,
	status {int} NOT NULL,
	code {name} NOT NULL,
	took_us {int} NOT NULL,
	PRIMARY KEY (request, seq)
) {table clustered}
