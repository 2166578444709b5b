-- name: begin
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
select private.keep_pieces(%(id)s, %(pieces)s, cast(%(unused_tracks)s as smallint));

-- name: pieces_left
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
select private.is_any_piece_heard(%(id)s);

-- name: wants_piece
select private.wants_piece(%(id)s, %(run)s, %(number)s);

-- name: keep_spoilt
select private.keep_spoilt(%(id)s, %(number)s);

-- name: keep_heard
select private.keep_heard(%(id)s, %(number)s, %(sealed)s, %(gives_up)s);

-- name: read_heard
select
    p.number,
    p.heard,
    p.is_unintelligible,
    p.turn
from private.read_heard(%(id)s) as p;

-- name: read_retried
select
    r.sealed,
    r.corrections
from private.read_retried(%(id)s) as r;

-- name: finish
select private.finish_transcription(
    %(id)s, %(language)s, %(words)s, %(terms)s, %(corrections)s, %(without_words)s, %(unheard_pieces)s,
    %(unheard_turns)s
);

-- name: give_up
select private.give_up_transcription(%(id)s, %(status)s, %(reason)s);

-- name: resume
select private.resume_transcriptions();

-- name: word_index_key
select
    k.wrapped,
    k.root_key
from private.word_index_key(%(wrapped)s, %(root_key_id)s) as k;
