-- Transcripts: the table contains no text, and a doctor sees the progress of the transcripts of the doctor's own
-- recordings. Only SQL functions of the schema private begin, advance, retry and read transcripts.

select private.reset_access('resguardo.transcripts');
alter table resguardo.transcripts enable row level security;

grant select on resguardo.transcripts to clinician;

create policy transcripts_select_clinician on resguardo.transcripts for select to clinician
using (doctor_id = (select private.doctor()));

grant execute on function
private.open_transcript(text, uuid),
private.correct_transcript(uuid, integer, bytea, bigint[]),
private.retry_transcription(uuid),
private.switch_transcription(uuid, boolean)
to clinician;
