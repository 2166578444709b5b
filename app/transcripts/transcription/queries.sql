-- name: begin
-- Begins or resumes a transcription and returns its sounds with their keys; no row if nothing is left to do now.
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

-- name: keep_pieces
-- Stores the chunks to transcribe, once.
select private.keep_pieces(%(id)s, %(pieces)s, cast(%(unused_tracks)s as smallint));

-- name: pieces_left
-- Returns the chunks that have no answer yet.
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
from private.pieces_left(%(id)s) as p;

-- name: is_any_heard
-- Returns whether a chunk of this recording has been transcribed before.
select private.is_any_piece_heard(%(id)s);

-- name: wants_piece
-- Returns whether a chunk is to be sent; null if the transcript is no longer wanted.
select private.wants_piece(%(id)s, %(run)s, %(number)s);

-- name: keep_spoilt
-- Counts a request that returned nothing usable, and returns the count of the chunk.
select private.keep_spoilt(%(id)s, %(number)s);

-- name: keep_heard
-- Stores the encrypted answer for a chunk.
select private.keep_heard(%(id)s, %(number)s, %(sealed)s, %(gives_up)s);

-- name: read_heard
-- Returns the answers for all chunks; no row while a chunk has none.
select
    p.number,
    p.heard,
    p.is_unintelligible,
    p.turn
from private.read_heard(%(id)s) as p;

-- name: read_retried
-- Returns the encrypted text and the corrections of a transcript that is being retried; else no row.
select
    r.sealed,
    r.corrections
from private.read_retried(%(id)s) as r;

-- name: finish
-- Stores the text and its search terms, and ends the transcription.
select private.finish_transcription(
    %(id)s, %(language)s, %(words)s, %(terms)s, %(corrections)s, %(without_words)s, %(unheard_pieces)s,
    %(unheard_turns)s
);

-- name: give_up
-- Ends a transcription that cannot be completed.
select private.give_up_transcription(%(id)s, %(status)s, %(reason)s);

-- name: resume
-- Queues a job for each unfinished transcription that has none, and returns how many.
select private.resume_transcriptions();

-- name: word_index_key
-- Stores the key of the word index once, and returns the stored key.
select
    k.wrapped,
    k.root_key
from private.word_index_key(%(wrapped)s, %(root_key_id)s) as k;
