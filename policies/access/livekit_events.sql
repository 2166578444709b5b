-- The inbox of LiveKit's webhook events, which contains only ids and times: the API writes events through one
-- function, and the worker reads them.

grant select on private.livekit_events to resguardo_worker;

grant execute on function private.receive_livekit_event(text, text, text, text, timestamptz) to resguardo_api;
