-- Transcription: only the worker uses these functions.

grant execute on function
private.begin_transcription(uuid, text[]),
private.keep_pieces(uuid, jsonb, smallint),
private.pieces_left(uuid),
private.is_any_piece_heard(uuid),
private.keep_heard(uuid, integer, bytea, boolean),
private.wants_piece(uuid, integer, integer),
private.keep_spoilt(uuid, integer),
private.read_heard(uuid),
private.read_retried(uuid),
private.finish_transcription(uuid, text, bytea, bigint[], integer, integer, integer[], integer[]),
private.give_up_transcription(uuid, text, text),
private.resume_transcriptions()
to resguardo_worker;
