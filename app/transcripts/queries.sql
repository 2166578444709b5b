-- name: open
select
    t.sealed,
    t.wrapped,
    t.root_key,
    t.corrections,
    t.corrected_by,
    t.corrected_at
from private.open_transcript(%(action)s, %(id)s) as t;

-- name: correct
select
    c.made_by,
    c.made_at
from private.correct_transcript(%(id)s, %(number)s, %(sealed)s, %(terms)s) as c;

-- name: word_index_key
select
    k.wrapped,
    k.root_key
from private.read_word_index_key() as k;

-- name: search
select
    t.recording_id,
    t.consultation_id,
    t.recorded_at,
    t.sealed,
    t.wrapped,
    t.root_key,
    t.corrections,
    t.is_cut
from private.search_transcripts(
    %(terms)s, %(patient_id)s, %(consultation_id)s, %(recording_id)s, %(since)s, %(until)s, %(with_sensitive)s,
    %(most)s
) as t;

-- name: retry
select private.retry_transcription(%(id)s);

-- name: switch
select private.switch_transcription(%(id)s, %(is_on)s);

-- name: keep_subtitle_link
select private.keep_subtitle_link(%(id)s, %(secret_sha256)s, %(lifetime_seconds)s);

-- name: read_subtitle_link
select
    l.claims,
    l.of_recording
from private.read_subtitle_link(%(secret)s) as l;
