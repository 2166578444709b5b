-- The inbox of LiveKit's deliveries: the API writes it through one function, and the worker reads it. It holds ids
-- only.

grant select on private.livekit_events to resguardo_worker;

grant execute on function private.receive_livekit_event(text, text, text, text, timestamptz) to resguardo_api;
