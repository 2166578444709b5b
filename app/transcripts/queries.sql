-- name: correct
-- Stores a correction of a transcript, and returns who made the correction and when.
select
    c.made_by,
    c.made_at
from private.correct_transcript(%(id)s, %(number)s, %(ciphertext)s, %(terms)s) as c;

-- name: word_index_key
-- Returns the key of the word index, or no row if no transcript has been stored yet.
select
    k.wrapped,
    k.root_key
from private.read_word_index_key() as k;

-- name: search
-- Returns the newest encrypted transcripts that may contain all terms of the search.
select
    t.search_id,
    t.recording_id,
    t.ciphertext,
    t.wrapped,
    t.root_key,
    t.corrections,
    t.is_cut
from private.search_transcripts(
    %(terms)s,
    coalesce(%(patient_id)s::uuid, private.patient_id_of(%(patient_external_id)s::text)),
    coalesce(%(consultation_id)s::uuid, private.consultation_id_of(%(consultation_external_id)s::text)),
    %(recording_id)s, %(since)s, %(until)s, %(with_sensitive)s, %(most)s, %(fields)s
) as t;

-- name: retry
-- Retries a transcription, and returns false if the caller may not see the recording.
select private.retry_transcription(%(id)s);

-- name: switch
-- Sets whether the consultation is transcribed, and returns false if the caller may not see the consultation.
select private.switch_transcription(%(id)s, %(is_on)s);

-- name: store_subtitle_link
-- Stores a subtitle link and returns when it expires, or nulls if the recording has no text that the caller may read.
-- Also returns whether the recording is of a consultation of the sensitivity SUBSTANCE_USE.
with stored as materialized (
    select private.store_subtitle_link(%(id)s, %(secret_sha256)s, %(lifetime_seconds)s) as expires_at
)

select
    s.expires_at,
    floor(extract(epoch from s.expires_at - now()))::integer as expires_in_seconds,
    exists(
        select from resguardo.recordings as r
        inner join resguardo.consultations as c on r.consultation_id = c.id
        where r.id = %(id)s and c.sensitivity = 'SUBSTANCE_USE'
    ) as has_notice
from stored as s;

-- name: read_subtitle_link
-- Returns the claims and the recording of a subtitle link, and whether the notice against redisclosure accompanies the
-- subtitles, or no row if the link is unknown or expired.
select
    l.claims,
    l.of_recording,
    l.has_notice
from private.read_subtitle_link(%(secret)s) as l;
