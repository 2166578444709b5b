"""Services for costs: the report of the ledger, the estimate, and the lifting of a doctor's budget."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final
from uuid import UUID

from app.costs.model import (
    MAX_MINUTES,
    MAX_REPORT_DAYS,
    MAX_SESSIONS,
    CostEstimate,
    CostGrouping,
    CostPrices,
    CostQuantity,
    CostReport,
    build_report,
    estimate_costs,
)
from app.errors import InvalidInput, NotFound
from app.identity import permissions
from app.postgres.database import Asker, Database
from app.postgres.queries import Queries

_sql: Final = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True)
class LanguageBudget:
    """The budget of one doctor on one day, which an officer has lifted."""

    doctor_id: UUID
    day: date
    tokens_per_day: int
    used_tokens: int


class Costs:
    """The cost service of the API. Without a language model, an estimate contains no tokens."""

    def __init__(self, database: Database, prices: CostPrices, *, has_language_model: bool) -> None:
        self._database = database
        self._prices = prices
        self._has_language_model = has_language_model

    async def report(self, asker: Asker, since: date, until: date, grouping: CostGrouping) -> CostReport:
        """Return the costs of the days (UTC) from `since` to before `until`. Raises InvalidInput (cost_period) and
        RateLimited (quota_pages).
        """
        if not 1 <= (until - since).days <= MAX_REPORT_DAYS:
            raise InvalidInput("cost_period", maximum=MAX_REPORT_DAYS)
        wanted = {"since": since, "until": until, "group_by": grouping.value}
        async with self._database.as_user(asker, permissions.REPORT_COSTS.on()) as tx:
            rows = await tx.all(_sql["report_costs"], wanted)
        return build_report(grouping, (CostQuantity(**row) for row in rows), self._prices)

    async def estimate(self, asker: Asker, minutes: int, sessions_per_month: int) -> CostEstimate:
        """Return what sessions of this length cost. Raises InvalidInput (cost_minutes, cost_sessions) and
        RateLimited (quota_pages).
        """
        if not 0 <= minutes <= MAX_MINUTES:
            raise InvalidInput("cost_minutes", maximum=MAX_MINUTES)
        if not 0 <= sessions_per_month <= MAX_SESSIONS:
            raise InvalidInput("cost_sessions", maximum=MAX_SESSIONS)
        async with self._database.as_user(asker, permissions.ESTIMATE_COSTS.on()) as tx:
            await tx.all(_sql["record_access_to_estimate"])
        return estimate_costs(
            minutes, sessions_per_month, self._prices, has_language_model=self._has_language_model
        )

    async def lift_language_budget(self, asker: Asker, doctor_id: UUID) -> LanguageBudget:
        """Lift the budget of a doctor for today (UTC), and queue the jobs that wait for it. Safe to repeat. Raises
        NotFound (staff_not_found).
        """
        async with self._database.as_user(asker, permissions.LIFT_LANGUAGE_BUDGET.on()) as tx:
            row = await tx.one(_sql["lift_language_budget"], {"doctor_id": doctor_id})
        if row is None:
            raise NotFound("staff_not_found")
        return LanguageBudget(doctor_id=doctor_id, **row)
