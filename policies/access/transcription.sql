-- Transcription: only the worker may call the functions that this file names.

grant execute on function
private.begin_transcription(uuid, text[]),
private.store_chunks(uuid, jsonb, smallint),
private.list_unanswered_chunks(uuid),
private.is_any_chunk_transcribed(uuid),
private.store_answer(uuid, integer, bytea, boolean),
private.is_chunk_wanted(uuid, integer, integer),
private.count_failed_request(uuid, integer),
private.read_answers(uuid),
private.read_retried_transcript(uuid),
private.finish_transcription(uuid, text, bytea, bigint[], integer, integer, integer[], integer[]),
private.give_up_transcription(uuid, text, text),
private.resume_transcriptions()
to resguardo_worker;
