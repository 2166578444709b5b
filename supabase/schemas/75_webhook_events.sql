-- The events of recordings, transcripts, insights, notes and deletions that are announced to webhook endpoints. Each
-- trigger runs in the transaction that makes the announced change.

-- Announces an event of the type in the first argument, about an entity of the type in the second argument. The column
-- in the third argument has the id.
create function private.announce_event() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform private.announce(tg_argv[0], tg_argv[1], array[(to_jsonb(new) ->> tg_argv[2])::uuid]);
    return null;
end
$$;

create trigger recordings_announce_ready after update of status on resguardo.recordings
for each row when (new.medium = 'VIDEO' and new.status = 'READY' and old.status <> 'READY')
execute function private.announce_event('recording.ready', 'recording', 'id');

create trigger recordings_announce_failed after update of status on resguardo.recordings
for each row when (new.medium = 'VIDEO' and new.status = 'FAILED' and old.status <> 'FAILED')
execute function private.announce_event('recording.failed', 'recording', 'id');

create trigger transcripts_announce_ready after update on resguardo.transcripts
for each row when (new.status = 'READY' and not new.is_retried and (old.status <> 'READY' or old.is_retried))
execute function private.announce_event('transcript.ready', 'recording', 'recording_id');

create trigger insights_announce_ready after update on resguardo.insights
for each row when (
    (new.status = 'READY' and old.status <> 'READY') or (new.status = 'STALE' and old.status in ('PENDING', 'RUNNING'))
)
execute function private.announce_event('insights.ready', 'recording', 'recording_id');

create trigger signed_note_versions_announce after insert on resguardo.signed_note_versions
for each row execute function private.announce_event('note.signed', 'signed_note', 'note_id');

create trigger deletions_announce_done after update on resguardo.deletions
for each row when (new.status = 'DELETED' and old.status <> 'DELETED')
execute function private.announce_event('deletion.done', 'deletion', 'id');

create trigger signed_notes_announce_destroyed after update on resguardo.signed_notes
for each row when (new.status = 'DESTROYED' and old.status <> 'DESTROYED')
execute function private.announce_event('deletion.done', 'signed_note', 'id');
