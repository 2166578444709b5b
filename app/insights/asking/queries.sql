-- name: require_allowed
-- Raises an error if the language service may not be asked about the recording now.
select private.require_question_allowed(%(recording_id)s, %(uses_budget)s);

-- name: begin
-- Begins a question that was asked with an idempotency key, and returns its encrypted answer if it has one.
select private.begin_question(%(id)s, %(recording_id)s, %(lease_seconds)s);

-- name: end
-- Counts the tokens of an answer, and stores the encrypted answer, or lets the next call ask again.
select private.end_question(
    %(id)s, %(recording_id)s, %(answer)s, %(vendor)s, %(model)s, %(input_tokens)s, %(cached_tokens)s,
    %(output_tokens)s
);

-- name: require_shown
-- Raises an error if the answer may no longer be shown.
select private.require_answer_shown(%(recording_id)s);
