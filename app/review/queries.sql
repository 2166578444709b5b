-- name: record_disposition
-- Records an officer's disposition of a case and returns the case's id; returns null if the case does not exist or is
-- about the officer's own activity.
select private.record_disposition(%(id)s, %(disposition)s, %(text)s);

-- name: assign_review_case
-- Assigns an open case to an officer or to nobody and returns the case's id; returns null if the case does not exist or
-- is about the caller's own activity.
select private.assign_review_case(%(id)s, %(officer_id)s::uuid);
