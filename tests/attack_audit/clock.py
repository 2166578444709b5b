"""The clock of the harness. The database, the worker and the witness agree on a time that the harness moves."""

import time
from typing import Final

import psycopg

_FUNCTION: Final = """
create or replace function private.now() returns timestamptz
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return clock_timestamp() + interval '{} seconds';
end
$$;
alter table audit.events alter column recorded_at set default private.now();
"""


class Clock:
    """Counts seconds like the machine's clock, `offset` seconds ahead of it."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        """Return the POSIX time."""
        return time.time() + self.offset

    def set_database(self, superuser_url: str) -> None:
        """Give the database this time. New events are recorded at this time."""
        with psycopg.connect(superuser_url) as connection:
            connection.execute(_FUNCTION.format(round(self.offset, 3)).encode())
