-- Transcripts: the table contains no text, and a clinician sees the progress of the transcripts of the recordings that
-- the clinician sees. Compliance officers see the progress of all transcripts, and never a text. Only SQL functions of
-- the schema private begin, advance, retry and read transcripts.

select private.reset_access('resguardo.transcripts');
alter table resguardo.transcripts enable row level security;

grant select on resguardo.transcripts to clinician, compliance;

create policy transcripts_select_clinician on resguardo.transcripts for select to clinician
using (
    case
        when doctor_id = (select private.doctor()) then true
        else consultation_id = any((select private.shared_consultation_ids())::uuid[])
    end
);

create policy transcripts_select_compliance on resguardo.transcripts for select to compliance
using ((select private.person()) is not null);

grant execute on function
private.open_transcript(text, uuid, jsonb, text[]),
private.correct_transcript(uuid, integer, bytea, bigint[]),
private.retry_transcription(uuid),
private.switch_transcription(uuid, boolean)
to clinician;
