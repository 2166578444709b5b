-- Every change of a recording is told as it commits: its consultation's id on a channel, and nothing else. Postgres
-- lets whoever may connect to the database listen, and notify; so whoever is told reads the rows again under their own
-- rights, and a forged notification costs a reading. Equal ones of one transaction are told once.

create function private.announce_recording() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('resguardo_recordings', new.consultation_id::text);
    return null;
end
$$;

create trigger recordings_announce after insert or update on resguardo.recordings
for each row execute function private.announce_recording();
