-- Counters that replicas poll to learn of changes.
CREATE TABLE revisions (
	name {key} NOT NULL PRIMARY KEY,
	rev {int} NOT NULL
) {table clustered}
--;
-- Small values of the site, as JSON.
CREATE TABLE settings (
	name {key} NOT NULL PRIMARY KEY,
	value {text} NOT NULL,
	updated_at {int} NOT NULL
) {table clustered}
