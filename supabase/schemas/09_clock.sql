-- The clock of retention, which never goes back, and the locks that put transactions in turn.

-- The latest time that the database's clock and the bucket's have agreed upon: what is reckoned from here ends no
-- sooner for a clock that jumped back.
create table private.keeping_clock (
    singleton boolean primary key default true constraint keeping_clock_is_single check (singleton),
    highest timestamptz not null
);

insert into private.keeping_clock (highest) values ('-infinity');

-- Rows that transactions lock to take turns. No advisory locks: whoever can connect can hold one, and no login of ours
-- can lock a row here but by the functions below.
create table private.turns (
    of text primary key constraint turns_of_is_known check (of in ('keeping', 'policies', 'bucket'))
);
comment on table private.turns is 'What transactions take turns at; nobody reads or writes the rows, which are locked.';

insert into private.turns (of) values ('keeping'), ('policies'), ('bucket');

-- The database's clock, in one place: what is due, held or overdue is reckoned by this alone.
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

-- Law 7: whoever takes something away holds this shared, whoever forbids it holds it alone, each to the end of the
-- transaction. So nothing is begun to be destroyed while a hold on it is being placed.
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
