-- Moves of objects, and missing objects: only the worker may call the functions that this file names.

grant execute on function
private.unprotected_videos(),
private.moving_videos(),
private.begin_move(uuid),
private.keep_object(uuid, text, text),
private.end_move(uuid),
private.begin_look(),
private.missing_objects(text, text, text[]),
private.report_missing(uuid, timestamptz)
to resguardo_worker;
