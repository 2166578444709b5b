-- Subtitle links: the doctor requests a link; when somebody opens the link, the API reads it with the API's database
-- login.

grant execute on function private.store_subtitle_link(uuid, bytea, integer) to clinician;

grant execute on function private.read_subtitle_link(bytea) to resguardo_api;
