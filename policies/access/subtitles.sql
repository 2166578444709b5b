-- Subtitle links: the doctor requests a link, and the API opens it with its own login.

grant execute on function private.store_subtitle_link(uuid, bytea, integer) to clinician;

grant execute on function private.read_subtitle_link(bytea) to resguardo_api;
