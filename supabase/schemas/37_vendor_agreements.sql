-- The register of business associate agreements (45 CFR 164.308(b)): which company runs which service, and under which
-- agreement. The register is insert-only, and the newest entry of a service is in force.

create table resguardo.vendor_agreements (
    id uuid primary key default gen_random_uuid(),
    service text not null
    constraint vendor_agreements_service_is_known check (
        service in ('DATABASE', 'STORAGE', 'VIDEO', 'SPEECH', 'LANGUAGE', 'OTHER')
    ),
    vendor text not null constraint vendor_agreements_vendor_is_line check (vendor ~ '^[^[:cntrl:]]{1,200}$'),
    basis text not null
    constraint vendor_agreements_basis_is_known check (basis in ('AGREEMENT', 'SELF_OPERATED')),
    version text not null constraint vendor_agreements_version_is_line check (version ~ '^[^[:cntrl:]]{1,200}$'),
    signatory text not null
    constraint vendor_agreements_signatory_is_line check (signatory ~ '^[^[:cntrl:]]{1,200}$'),
    signed_on date not null,
    expires_on date,
    recorded_at timestamptz not null default clock_timestamp(),
    recorded_by uuid
    constraint vendor_agreements_recorded_by_fkey references resguardo.staff (user_id),
    constraint vendor_agreements_term_is_forward check (expires_on >= signed_on)
);
alter table resguardo.vendor_agreements enable row level security;
comment on table resguardo.vendor_agreements is
'Insert-only. The newest entry of a service is in force; an end before the agreed day is a further entry.';
comment on column resguardo.vendor_agreements.signatory is 'Who signed the agreement for the practice.';
comment on column resguardo.vendor_agreements.expires_on is
'The last day of the agreement. Null if it has no end.';
comment on column resguardo.vendor_agreements.recorded_by is 'Null if the owner recorded the entry with a command.';
create index vendor_agreements_recorded_idx on resguardo.vendor_agreements (recorded_at desc, id desc);
create index vendor_agreements_service_idx on resguardo.vendor_agreements (service, recorded_at desc, id desc);
create index vendor_agreements_recorded_by_idx on resguardo.vendor_agreements (recorded_by);

create trigger vendor_agreements_refuse_change before update or delete on resguardo.vendor_agreements
for each row execute function private.refuse_change();
create trigger vendor_agreements_refuse_truncate before truncate on resguardo.vendor_agreements
for each statement execute function private.refuse_change();
alter table resguardo.vendor_agreements enable always trigger vendor_agreements_refuse_change;
alter table resguardo.vendor_agreements enable always trigger vendor_agreements_refuse_truncate;

-- Inserts an entry into the register, and returns its id. If the newest entry of the service is the same, the function
-- returns the id of that entry. Raises RG409 (agreement_signed_ahead).
create function private.add_vendor_agreement(
    of_service text, of_vendor text, of_basis text, of_version text, of_signatory text, signed date, expires date,
    officer uuid
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    newest resguardo.vendor_agreements;
    entry uuid;
begin
    if signed > private.today() then
        raise exception 'agreement_signed_ahead' using errcode = 'RG409';
    end if;
    select a.* into newest from resguardo.vendor_agreements as a where a.service = of_service
    order by a.recorded_at desc, a.id desc limit 1;
    if (newest.vendor, newest.basis, newest.version, newest.signatory, newest.signed_on) = (
        of_vendor, of_basis, of_version, of_signatory, signed
    ) and newest.expires_on is not distinct from expires then
        return newest.id;
    end if;
    insert into resguardo.vendor_agreements as a (
        service, vendor, basis, version, signatory, signed_on, expires_on, recorded_by
    ) values (of_service, of_vendor, of_basis, of_version, of_signatory, signed, expires, officer)
    returning a.id into entry;
    return entry;
end
$$;

-- Records an entry of the register as a compliance officer, and returns its id. Raises RG409 (agreement_signed_ahead).
create function private.record_vendor_agreement(
    of_service text, of_vendor text, of_basis text, of_version text, of_signatory text, signed date, expires date
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    officer constant uuid := private.person();
    entry constant uuid := private.add_vendor_agreement(
        of_service, of_vendor, of_basis, of_version, of_signatory, signed, expires, officer
    );
begin
    perform private.write_audit_later(
        'vendor_agreement.record', null, 'vendor_agreement', entry, null, null, array['vendorAgreement'], null
    );
    return entry;
end
$$;

-- Records an entry of the register as the owner, and returns its id. Raises RG409 (agreement_signed_ahead).
create function private.record_vendor_agreement_as_owner(
    of_service text, of_vendor text, of_basis text, of_version text, of_signatory text, signed date, expires date
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entry constant uuid := private.add_vendor_agreement(
        of_service, of_vendor, of_basis, of_version, of_signatory, signed, expires, null
    );
begin
    perform private.write_audit(
        'vendor_agreement.record', 'ALLOWED', null, 'vendor_agreement', array[entry], '{}', '{}',
        array['vendorAgreement'], 1, null
    );
    return entry;
end
$$;

-- Returns each of these services whose newest entry of the register has expired or expires within the given number of
-- days, and each without an entry. `agreement_id` is null for a service without an entry.
create function private.find_agreement_gaps(services text[], within_days integer)
returns table (service text, agreement_id uuid, expires_on date)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    last_day constant date := (private.now() at time zone 'UTC')::date + within_days;
begin
    return query
    select g.service, a.id, a.expires_on
    from unnest(services) as g (service)
    left join lateral (
        select v.id, v.expires_on from resguardo.vendor_agreements as v where v.service = g.service
        order by v.recorded_at desc, v.id desc limit 1
    ) as a on true
    where a.id is null or a.expires_on < last_day
    order by g.service;
end
$$;
