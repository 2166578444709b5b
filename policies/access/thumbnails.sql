-- Thumbnails: a clinician who sees a recording requests a link; when somebody opens the link, the API reads it with the
-- API's database login, and opens the thumbnail as the clinician. The worker makes thumbnails.

grant execute on function
private.store_thumbnail_link(uuid, bytea, integer),
private.open_thumbnail(uuid)
to clinician;

grant execute on function private.read_thumbnail_link(bytea) to resguardo_api;

grant execute on function
private.request_thumbnail(uuid),
private.begin_thumbnail(uuid),
private.finish_thumbnail(uuid, bytea),
private.fail_thumbnail(uuid, text)
to resguardo_worker;
