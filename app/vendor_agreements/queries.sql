-- name: record_agreement
-- Records an entry of the register as a compliance officer, and returns its id.
select private.record_vendor_agreement(
    %(service)s, %(vendor)s, %(basis)s, %(version)s, %(signatory)s, %(signed_on)s, %(expires_on)s
);

-- name: record_agreement_as_owner
-- Records an entry of the register as the owner, and returns its id.
select private.record_vendor_agreement_as_owner(
    %(service)s, %(vendor)s, %(basis)s, %(version)s, %(signatory)s, %(signed_on)s, %(expires_on)s
);

-- name: list_newest_agreements
-- Returns the newest entry of each service, for the owner.
select distinct on (a.service) a.service, a.vendor, a.basis, a.version, a.signed_on, a.expires_on
from resguardo.vendor_agreements as a
order by a.service asc, a.recorded_at desc, a.id desc;

-- name: find_gaps
-- Returns the services without an agreement that is valid for the given number of days.
select g.service, g.agreement_id, g.expires_on
from private.find_agreement_gaps(%(services)s::text[], %(within_days)s) as g;
