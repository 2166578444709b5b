-- name: attest_review
-- Attests the review of a month and returns the id of the attestation.
select private.attest_review(%(month)s, %(findings)s::text[], %(note)s, %(totp_max_age_seconds)s);
