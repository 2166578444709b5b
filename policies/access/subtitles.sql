-- Links to subtitles: the doctor gets one, and the API opens it as itself.

grant execute on function private.keep_subtitle_link(uuid, bytea, integer) to clinician;

grant execute on function private.read_subtitle_link(bytea) to resguardo_api;
