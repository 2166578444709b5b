-- name: share
-- Shares the caller's own consultation with a colleague and returns the id of the share; null if the consultation
-- belongs to another doctor or does not exist.
select private.share_consultation(
    %(consultation_id)s, %(colleague_id)s, %(purpose)s, %(may_write_notes)s, %(ends_at)s
);

-- name: end_share
-- Ends a share and returns its id; null if the caller may not see the share or it does not exist.
select private.end_share(%(id)s);

-- name: authorize
-- Records an authorization of the patient and returns its id; null if the consultation belongs to another doctor or
-- does not exist.
select private.authorize_sharing(
    %(consultation_id)s, %(colleague_id)s, %(signed_on)s, %(is_signed_by_representative)s, %(expires_at)s
);

-- name: withdraw_authorization
-- Records that the patient has withdrawn an authorization and returns its id; null if the authorization belongs to the
-- consultation of another doctor or does not exist.
select private.withdraw_sharing_authorization(%(id)s);
