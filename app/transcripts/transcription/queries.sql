-- name: begin
-- Begins or resumes a transcription and returns its sound files with their object keys, or no row if the job has
-- nothing to do now.
select
    b.sound,
    b.medium,
    b.object_key,
    b.size_bytes,
    b.late_ms,
    b.voices,
    b.wrapped,
    b.root_key,
    b.is_planned,
    b.run,
    b.language
from private.begin_transcription(%(id)s, %(texts)s) as b;

-- name: store_chunks
-- Stores the chunks to transcribe, unless they are already stored.
select private.store_chunks(%(id)s, %(chunks)s, cast(%(unused_tracks)s as smallint));

-- name: list_unanswered_chunks
-- Returns the chunks for which the speech service has not answered yet.
select
    p.number,
    p.sound,
    p.late_ms,
    p.channel,
    p.source,
    p.start_ms,
    p.end_ms,
    p.label,
    p.speaker,
    p.participant_id
from private.list_unanswered_chunks(%(id)s) as p;

-- name: is_any_chunk_transcribed
-- Returns whether the speech service has transcribed a chunk of this recording before.
select private.is_any_chunk_transcribed(%(id)s);

-- name: is_chunk_wanted
-- Returns whether a chunk must still be sent, or null if the transcript is no longer wanted.
select private.is_chunk_wanted(%(id)s, %(run)s, %(number)s);

-- name: count_failed_request
-- Counts a request to the speech service that returned nothing usable, and returns how many such requests the chunk
-- has had.
select private.count_failed_request(%(id)s, %(number)s);

-- name: store_answer
-- Stores the encrypted answer of the speech service for a chunk.
select private.store_answer(%(id)s, %(number)s, %(ciphertext)s, %(gives_up)s);

-- name: count_transcribed_sound
-- Adds transcribed sound to the recording's cost ledger.
select private.count_usage(%(id)s, 'SPEECH', %(vendor)s, %(model)s, 'MILLISECONDS', %(duration_ms)s);

-- name: read_answers
-- Returns the speech service's answers for all chunks, or no row while a chunk has no answer.
select
    p.number,
    p.answer,
    p.is_unintelligible,
    p.turn
from private.read_answers(%(id)s) as p;

-- name: read_retried_transcript
-- Returns the encrypted text and the corrections of a transcript that is being retried, or no row if the transcript
-- is not a retry.
select
    r.ciphertext,
    r.corrections
from private.read_retried_transcript(%(id)s) as r;

-- name: finish
-- Stores the text and its search terms, and ends the transcription.
select private.finish_transcription(
    %(id)s, %(language)s, %(new_text)s, %(terms)s, %(corrections)s, %(turns_without_text)s, %(unintelligible_chunks)s,
    %(unintelligible_turns)s
);

-- name: give_up
-- Ends a transcription that cannot be completed, with its reason.
select private.give_up_transcription(%(id)s, %(status)s, %(reason)s);

-- name: resume
-- Queues a job for each unfinished transcription that has no job, and returns the number of queued jobs.
select private.resume_transcriptions();

-- name: word_index_key
-- Stores the key of the word index unless one is stored already, and returns the key that is now stored.
select
    k.wrapped,
    k.root_key
from private.word_index_key(%(wrapped)s, %(root_key_id)s) as k;
