-- Questions about transcripts: only SQL functions read or write the table. A doctor begins questions about their own
-- recordings. The API ends a question and counts its cost without the doctor's session, which may have ended since.

grant execute on function
private.require_question_allowed(uuid, boolean),
private.begin_question(uuid, uuid, integer),
private.require_answer_shown(uuid)
to clinician;

grant execute on function
private.end_question(uuid, uuid, bytea, text, text, bigint, bigint, bigint)
to resguardo_api;
