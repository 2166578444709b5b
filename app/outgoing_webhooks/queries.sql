-- name: register_endpoints
-- Stores the endpoints in the settings of this worker; returns nothing.
select private.register_webhook_endpoints(%(names)s::text[], %(url_digests)s::text[], %(types)s);

-- name: claim_deliveries
-- Begins an attempt at each due delivery of an endpoint, and returns these deliveries.
select
    c.delivery_id, c.attempt, c.message_id, c.event_type, c.entity_type, c.entity_ids, c.created_at
from private.claim_webhook_deliveries(%(endpoint)s, %(most)s) as c;

-- name: settle_attempt
-- Stores the result of an attempt and returns the status of the delivery; returns null if another attempt has begun.
select private.settle_webhook_attempt(
    %(delivery_id)s, %(attempt)s, %(duration_ms)s, %(status_code)s, %(error)s, %(is_overloaded)s,
    %(retry_after_seconds)s
);

-- name: clear_deliveries
-- Ends deliveries that are too old, deletes old ended ones, and returns how many it changed.
select private.clear_webhook_deliveries();

-- name: redeliver
-- Asks the worker to send a message again and returns its delivery; returns null if the delivery does not exist.
select private.redeliver_webhook(%(id)s);
