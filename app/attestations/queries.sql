-- name: attest_review
-- Attests the review of a month and returns the id of the attestation.
select private.attest_review(%(month)s, %(findings)s::text[], %(note)s, %(totp_max_age_seconds)s);

-- name: unattested_months
-- Returns the first days of the months that nobody has attested in time.
select private.unattested_months(%(grace_days)s);
