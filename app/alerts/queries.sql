-- name: open_alert
-- Opens the alert of a kind and key unless it is open, and returns its id.
select private.open_alert(%(kind)s, %(key)s, %(entity_type)s, %(ids)s::uuid[]);

-- name: close_alert
-- Closes the open alert of a kind and key.
select private.close_alert(%(kind)s, %(key)s);

-- name: replace_alerts
-- Opens the alerts of a kind for these findings, closes its other alerts, and returns the keys that were opened or
-- closed.
select r.key, r.is_over from private.replace_alerts(%(kind)s, %(findings)s::jsonb) as r;

-- name: count_open
-- Returns how many alerts of each kind are open, and when the oldest of them was opened.
select c.kind, c.open_count, c.opened_at from private.count_open_alerts() as c;
