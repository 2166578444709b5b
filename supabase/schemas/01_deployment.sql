-- The name of the deployment that owns the database. The API and the worker refuse to use a database that belongs to
-- a deployment with a different name.

create table private.deployment (
    singleton boolean primary key default true constraint deployment_is_single check (singleton),
    name text not null constraint deployment_name_is_slug check (name ~ '^[a-z][a-z0-9-]{1,38}[a-z0-9]$'),
    created_at timestamptz not null default now()
);

create function private.deployment_name() returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (select d.name from private.deployment as d);
end
$$;
