-- The retention clock, which never goes back, and the row locks that make transactions run one after the other.

-- The latest time on which the database's clock and the bucket's clock agreed. Retention terms count from the time of
-- the retention clock, so a database clock that jumps back makes no recording due sooner.
create table private.keeping_clock (
    singleton boolean primary key default true constraint keeping_clock_is_single check (singleton),
    highest timestamptz not null
);

insert into private.keeping_clock (highest) values ('-infinity');

-- Rows that transactions lock in order to run one after the other. The functions use no advisory locks, because every
-- database login can take an advisory lock. The logins of the API and the worker can lock a row of this table only
-- through functions of the schema `private`.
create table private.turns (
    of text primary key constraint turns_of_is_known check (of in ('keeping', 'policies', 'bucket')),
    holder uuid,
    held_until timestamptz
);
comment on table private.turns is
'Rows that transactions lock to take turns. Only the turn at the bucket''s rules outlasts a transaction.';
comment on column private.turns.holder is
'The process that may write the bucket''s rules until held_until. Null in the other rows.';

insert into private.turns (of) values ('keeping'), ('policies'), ('bucket');

-- Returns the time by the database's clock. Every check whether a recording is due or held, or a request overdue,
-- uses this function.
create function private.now() returns timestamptz
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return clock_timestamp();
end
$$;

create function private.latest_time() returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return greatest(private.now(), (select c.highest from private.keeping_clock as c));
end
$$;

-- Law 7: takes the keeping lock, which a transaction that destroys a recording takes shared, and a transaction that
-- places a legal hold takes exclusively (`alone`). Each transaction keeps the keeping lock until it ends, so no
-- destruction begins while a legal hold is being placed.
create function private.lock_keeping(alone boolean) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if alone then
        perform from private.turns as t where t.of = 'keeping' for update;
    else
        perform from private.turns as t where t.of = 'keeping' for share;
    end if;
    if not found then
        raise exception 'turn_missing';
    end if;
end
$$;

create function private.today() returns date
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (private.now() at time zone 'UTC')::date;
end
$$;
