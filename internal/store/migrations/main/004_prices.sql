-- Prices that the operator set, as JSON, in the currency of the site. set_by
-- is who did.
CREATE TABLE price_overrides (
	model {key} NOT NULL PRIMARY KEY,
	price {text} NOT NULL,
	set_by {name} NOT NULL,
	updated_at {int} NOT NULL
) {table}
