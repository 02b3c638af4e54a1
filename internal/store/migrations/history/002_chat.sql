-- running is the ID of the turn that is being answered, or ''.
CREATE TABLE conversations (
	id {id} NOT NULL PRIMARY KEY,
	user_id {id} NOT NULL,
	title {name} NOT NULL,
	model {name} NOT NULL,
	running {id} NOT NULL,
	created_at {int} NOT NULL,
	updated_at {int} NOT NULL
) {table}
--;
CREATE INDEX conversations_user ON conversations (user_id, updated_at, id)
--;
-- runs is JSON, in_tokens is -1 where the usage is not known, cost is in
-- nano-credits. replaced_by is the ID of the turn that replaced it, or ''.
-- saved_at tells a turn that runs from one whose process is gone.
CREATE TABLE turns (
	id {id} NOT NULL PRIMARY KEY,
	conversation_id {id} NOT NULL,
	user_id {id} NOT NULL,
	question {text} NOT NULL,
	reasoning {text} NOT NULL,
	answer {text} NOT NULL,
	runs {text} NOT NULL,
	model {name} NOT NULL,
	state {id} NOT NULL,
	error_code {id} NOT NULL,
	error_text {text} NOT NULL,
	in_tokens {int} NOT NULL,
	out_tokens {int} NOT NULL,
	cost {int} NOT NULL,
	request {id} NOT NULL,
	replaced_by {id} NOT NULL,
	stop_asked {int} NOT NULL,
	created_at {int} NOT NULL,
	saved_at {int} NOT NULL,
	took_ms {int} NOT NULL
) {table}
--;
CREATE INDEX turns_conversation ON turns (conversation_id, created_at, id)
--;
CREATE INDEX turns_state ON turns (state, saved_at)
