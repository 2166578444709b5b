-- The writing of insights: the worker's steps, each of which first checks that the insights may be written.

grant execute on function
private.begin_insights(uuid, boolean),
private.store_part_count(uuid, integer, integer),
private.count_insight_request(uuid, integer, integer, integer, boolean),
private.take_back_insight_request(uuid, integer, integer),
private.store_insight_answer(uuid, integer, integer, integer, integer, bytea),
private.finish_insights(uuid, integer, integer, bytea, bytea, text, text, text, integer),
private.give_up_insights(uuid, text, text, integer[]),
private.resume_insights()
to resguardo_worker;
