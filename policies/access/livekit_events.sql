-- The inbox of LiveKit's events, which holds ids only: the API writes it through one function, and the worker reads
-- it.

grant select on private.livekit_events to resguardo_worker;

grant execute on function private.receive_livekit_event(text, text, text, text, timestamptz) to resguardo_api;
