-- What was said: whether a recording is turned into words, how far that is, and the words, which the database has only
-- as ciphertext under the recording's data key. The index by which they are searched holds keyed hashes of words.

alter table resguardo.consultations
add column transcribe boolean,
add column is_transcribed boolean not null
generated always as (coalesce(transcribe, sensitivity = 'ORDINARY')) stored;
comment on column resguardo.consultations.transcribe is 'What the doctor said of it; null is the default.';
comment on column resguardo.consultations.is_transcribed is
'Whether its recordings are turned into words: by default, unless the kind is sensitive.';

create table resguardo.transcripts (
    recording_id uuid primary key
    constraint transcripts_recording_id_fkey references resguardo.recordings (id),
    consultation_id uuid not null,
    doctor_id uuid not null,
    patient_id uuid not null,
    status text not null
    constraint transcripts_status_is_known check (
        status in ('PENDING', 'RUNNING', 'READY', 'NO_SPEECH', 'FAILED', 'OFF')
    ),
    error text constraint transcripts_error_is_slug check (error ~ '^[a-z][a-z0-9_]{0,63}$'),
    language text constraint transcripts_language_is_code check (language ~ '^[a-z]{2,3}$'),
    pieces_total integer constraint transcripts_pieces_total_range check (pieces_total >= 0),
    pieces_done integer not null default 0
    constraint transcripts_pieces_done_range check (pieces_done between 0 and coalesce(pieces_total, 0)),
    attempt integer not null default 1 constraint transcripts_attempt_range check (attempt > 0),
    created_at timestamptz not null default private.now(),
    status_at timestamptz not null default private.now(),
    constraint transcripts_people_fkey foreign key (consultation_id, doctor_id, patient_id)
    references resguardo.consultations (id, doctor_id, patient_id),
    constraint transcripts_error_says_why check ((error is not null) = (status in ('FAILED', 'OFF')))
);
create index transcripts_consultation_idx on resguardo.transcripts (consultation_id, doctor_id, patient_id);
create index transcripts_doctor_idx on resguardo.transcripts (doctor_id);
create index transcripts_patient_idx on resguardo.transcripts (patient_id);
comment on column resguardo.transcripts.pieces_total is
'How many requests it takes; null until the sound was looked at.';

create table private.transcript_pieces (
    recording_id uuid not null
    constraint transcript_pieces_recording_id_fkey references resguardo.transcripts (recording_id),
    number integer not null constraint transcript_pieces_number_range check (number >= 0),
    channel smallint constraint transcript_pieces_channel_range check (channel in (0, 1)),
    start_ms integer not null constraint transcript_pieces_start_range check (start_ms >= 0),
    end_ms integer not null,
    heard bytea,
    constraint transcript_pieces_pkey primary key (recording_id, number),
    constraint transcript_pieces_end_range check (end_ms > start_ms)
);
comment on column private.transcript_pieces.heard is 'What the vendor answered, encrypted; null until it did.';

create table private.transcript_words (
    recording_id uuid primary key
    constraint transcript_words_recording_id_fkey references resguardo.transcripts (recording_id),
    sealed bytea not null constraint transcript_words_sealed_length check (length(sealed) between 29 and 67108864),
    terms bigint[] not null,
    made_at timestamptz not null default private.now()
);
create index transcript_words_terms_idx on private.transcript_words using gin (terms) with (fastupdate = off);

create table private.transcript_corrections (
    recording_id uuid not null
    constraint transcript_corrections_recording_id_fkey references private.transcript_words (recording_id),
    number integer not null constraint transcript_corrections_number_range check (number > 0),
    sealed bytea not null constraint transcript_corrections_sealed_length check (length(sealed) between 29 and 131072),
    corrected_by uuid not null
    constraint transcript_corrections_corrected_by_fkey references resguardo.staff (user_id),
    corrected_at timestamptz not null default private.now(),
    constraint transcript_corrections_pkey primary key (recording_id, number)
);
create index transcript_corrections_corrected_by_idx on private.transcript_corrections (corrected_by);

create table private.word_index_key (
    is_the_only_one boolean primary key default true
    constraint word_index_key_is_alone check (is_the_only_one),
    wrapped_key bytea not null
    constraint word_index_key_wrapped_key_length check (length(wrapped_key) between 40 and 64),
    root_key_id text not null
    constraint word_index_key_root_key_id_fkey references private.root_keys (id)
);
create index word_index_key_root_key_idx on private.word_index_key (root_key_id);

create trigger transcripts_announce after insert on resguardo.transcripts
for each row execute function private.announce_recording();

-- Each twentieth of the pieces is told, not each piece: whoever watches reads the recording anew, with its audit row.
create trigger transcripts_announce_progress after update on resguardo.transcripts
for each row when (
    (new.status, new.attempt, new.pieces_total) is distinct from (old.status, old.attempt, old.pieces_total)
    or 20 * new.pieces_done / nullif(new.pieces_total, 0) <> 20 * old.pieces_done / nullif(old.pieces_total, 0)
) execute function private.announce_recording();

-- Whether a consultation's recordings are to be turned into words.
create function private.wants_words(of_consultation uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select c.is_transcribed from resguardo.consultations as c where c.id = of_consultation);
end
$$;

-- Whether a recording is to be destroyed, or was: its words are neither made nor given out, unless that is undone.
create function private.is_to_be_destroyed(of_recording uuid) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from resguardo.deletions as d
        where d.recording_id = of_recording and d.status in ('REQUESTED', 'DELETING', 'DELETED')
    );
end
$$;

-- Whether everybody who consented was shown a text that speaks of it. A withdrawal leaves what was recorded before
-- under the same rules.
create function private.text_allows_words(of_consultation uuid, texts text[]) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return not exists (
        select from resguardo.participants as p
        where p.consultation_id = of_consultation
            and (
                select n.text_version from resguardo.consents as n
                where n.participant_id = p.id and n.decision = 'GIVEN'
                order by n.recorded_at desc, n.id desc limit 1
            ) <> all (texts)
    );
end
$$;

-- A video that becomes READY, by whichever way, is to be turned into words in the same transaction.
create function private.await_words() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    is_wanted constant boolean := private.wants_words(new.consultation_id);
begin
    insert into resguardo.transcripts (recording_id, consultation_id, doctor_id, patient_id, status, error)
    values (
        new.id, new.consultation_id, new.doctor_id, new.patient_id,
        case when is_wanted then 'PENDING' else 'OFF' end, case when not is_wanted then 'switched_off' end
    ) on conflict do nothing;
    if found and is_wanted then
        perform private.put_job('transcribe_recording', new.id);
    end if;
    return null;
end
$$;

create trigger recordings_await_words after update of status on resguardo.recordings
for each row when (new.status = 'READY' and old.status <> 'READY' and new.medium = 'VIDEO')
execute function private.await_words();
