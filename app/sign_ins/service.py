"""Copies the events of Supabase Auth into the audit log, and says why the audit log may lack some.

Supabase Auth calls the hooks for wrong passwords and wrong codes by itself (48_sign_ins.sql).
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries

log: Final = logging.getLogger(__name__)

AT_MOST: Final = 1000
"""How many events one run copies at most: the sealer seals as many in one transaction."""

REPEAT_SECONDS: Final = 600
"""The same problems are logged again after this time."""

_sql = Queries(Path(__file__).with_name("queries.sql"))


class SignInReader:
    """The leader's periodic task that copies the events of Supabase Auth into the audit log.

    `clock` returns seconds and never goes back.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._logged: list[str] = []
        self._logged_at = 0.0

    async def read(self) -> int:
        """Copy the new events, at most `AT_MOST`, and return how many were copied. Log an error if the audit log
        may lack events of Supabase Auth. Raises AppError.
        """
        async with self._database.as_service("read_sign_ins") as tx:
            copied = await tx.value(_sql["read_entries"], {"at_most": AT_MOST})
            problems = await find_problems(tx)
        self._log(problems)
        return copied or 0

    def _log(self, problems: list[str]) -> None:
        if problems == self._logged and (not problems or self._clock() - self._logged_at < REPEAT_SECONDS):
            return
        if problems:
            log.error("the audit log may lack sign-ins: %s", ", ".join(problems))
        else:
            log.info("the audit log has all sign-ins again")
        self._logged, self._logged_at = problems, self._clock()


async def find_problems(tx: Transaction) -> list[str]:
    """Return the reasons for which the audit log may lack events of Supabase Auth."""
    return list(await tx.value(_sql["find_problems"]))
