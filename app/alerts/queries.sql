-- name: store_alert
-- Opens the alert of a kind and key unless it is open, and returns whether it was opened.
select s.is_new from private.store_alert(%(kind)s, %(key)s, %(entity_type)s, %(ids)s::uuid[]) as s;

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

-- name: evaluate_alerts
-- Opens and closes the alerts of a kind by the stored rows, and returns the keys that were opened or closed.
select r.key, r.is_over from private.evaluate_alerts(%(kind)s) as r;

-- name: watch_leader
-- Opens or closes the alert that no worker leads.
select w.seconds from private.watch_leader(%(most_seconds)s) as w;

-- name: report_unreadable_transcripts
-- Opens the alert about transcripts that a search could not decrypt.
select private.report_unreadable_transcripts(%(recording_ids)s::uuid[]);
