-- The search in transcripts: a doctor searches their own transcripts, and the worker creates the key of the word
-- index.

grant execute on function
private.search_transcripts(bigint[], uuid, uuid, uuid, timestamptz, timestamptz, boolean, integer, text[]),
private.add_shown_hits(uuid, jsonb),
private.read_word_index_key()
to clinician;

grant execute on function
private.word_index_key(bytea, text),
private.lock_word_index_key(text),
private.rewrap_word_index_key(bytea, text)
to resguardo_worker;
