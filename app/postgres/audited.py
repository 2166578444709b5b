"""Reads that write their audit row, and count against a quota, in the same statement.

A noun's `queries.sql` has a plain select of the rows. `AuditedRead` and `AuditedList` put it into the statement that
also calls `private.record_lookup()`. The statement returns one row: `recorded`, from that function, and `found`, a JSON
array. One row comes back for an empty result too, so that its audit row is written: Postgres does not call a function
to whose result nobody refers.

All parts of a statement are texts of this repository. A caller's values are parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Generic, Literal, LiteralString, TypeVar

from pydantic import TypeAdapter

from app.postgres.database import Parameters, Transaction
from app.postgres.paging import PageRequest

Item = TypeVar("Item")
Meter = Literal["pages", "urls"]

_STATEMENT: Final = """\
with page as materialized (
{rows}
),

seen as materialized (
    select
        private.record_lookup(
            %(audit_action)s, '{entity_type}', '{asked_type}', {asked}, {is_visible}, {ids}, {patients},
            {consultations}, count(*)::integer, %(audit_fields)s, %(audit_meter)s
        ) as recorded
    from {shown} as p
)

select
    (select s.recorded from seen as s) as recorded,
    coalesce((select json_agg(x{order})::text from ({details}) as x), '[]') as found"""
_BEFORE: Final = "where (r.{time}, r.id) < (%(before_at)s, %(before_id)s::uuid)\n"
_PAGE: Final = """\
select r.* from ({rows}) as r
{before}order by r.{time} desc, r.id desc
limit %(page_size)s"""
_SHOWN: Final = "(select s.* from page as s order by s.{time} desc, s.id desc limit %(first)s)"


@dataclass(frozen=True)
class Look(Generic[Item]):
    """The result of a read. `is_allowed` is False if the named entity is hidden or does not exist."""

    found: list[Item]
    is_allowed: bool


@dataclass(frozen=True, kw_only=True)
class _Audited(Generic[Item]):
    rows: LiteralString
    """A select with an `id`, and `patient_id` and `consultation_id` unless the fields below say otherwise."""
    items: TypeAdapter[list[Item]]
    entity_type: LiteralString
    action: LiteralString | None = None
    """None if each call names its action."""
    meter: Meter | None = None
    """What each read counts as."""
    asked: LiteralString = "null"
    """The id of the entity that the caller named, as SQL. If no row is found, the audit row says whether it exists."""
    asked_type: LiteralString | None = None
    """The type of that entity, if it is not `entity_type`."""
    is_visible: LiteralString = "false"
    """Whether the named entity is visible to the caller although no row is found, as SQL."""
    ids: LiteralString | None = "p.id"
    patients: LiteralString | None = "p.patient_id"
    consultations: LiteralString | None = "p.consultation_id"
    details: LiteralString = "select p.* from page as p"
    """A select from `page as p`: the rows with what belongs to each."""

    def _statement(
        self, rows: LiteralString, *, shown: LiteralString = "page", order: LiteralString = ""
    ) -> LiteralString:
        return _STATEMENT.format(
            rows=rows,
            entity_type=self.entity_type,
            asked_type=self.asked_type or self.entity_type,
            asked=self.asked,
            is_visible=self.is_visible,
            ids="'{}'" if self.ids is None else f"coalesce(array_agg({self.ids}), '{{}}')",
            patients=_distinct(self.patients),
            consultations=_distinct(self.consultations),
            shown=shown,
            order=order,
            details=self.details,
        )

    async def _look(
        self,
        tx: Transaction,
        statement: LiteralString,
        action: LiteralString | None,
        fields: Sequence[str],
        meter: Meter | None,
        parameters: Parameters,
    ) -> Look[Item]:
        about = {"audit_action": action or self.action, "audit_fields": list(fields), "audit_meter": meter}
        row = await tx.one(statement, {**parameters, **about})
        if row is None or row["recorded"] is None:
            raise RuntimeError("the statement has written no audit row")
        return Look(self.items.validate_json(row["found"]), row["recorded"])


def _distinct(column: LiteralString | None) -> LiteralString:
    return "'{}'" if column is None else f"array_remove(array_agg(distinct {column}), null)"


@dataclass(frozen=True, kw_only=True)
class AuditedRead(_Audited[Item]):
    """A read of one entity, or of a list that has no pages."""

    order: LiteralString | None = None
    """The order of the result, as columns of `x`."""

    @cached_property
    def statement(self) -> LiteralString:
        return self._statement(self.rows, order="" if self.order is None else f" order by {self.order}")

    async def look(
        self,
        tx: Transaction,
        parameters: Parameters,
        *,
        action: LiteralString | None = None,
        fields: Sequence[str] = (),
        is_counted: bool = True,
    ) -> Look[Item]:
        """Return the rows. With `is_counted` the read uses the meter, if there is one. Raises RateLimited."""
        meter = self.meter if is_counted else None
        return await self._look(tx, self.statement, action, fields, meter, parameters)

    async def all(
        self,
        tx: Transaction,
        parameters: Parameters,
        *,
        action: LiteralString | None = None,
        fields: Sequence[str] = (),
        is_counted: bool = True,
    ) -> list[Item]:
        """Return the rows, which are none if the named entity is hidden."""
        return (await self.look(tx, parameters, action=action, fields=fields, is_counted=is_counted)).found


@dataclass(frozen=True, kw_only=True)
class AuditedList(_Audited[Item]):
    """A list in pages, newest first by the column `time` and then by id."""

    time: LiteralString
    meter: Meter | None = "pages"

    @cached_property
    def first_page(self) -> LiteralString:
        return self._page("")

    @cached_property
    def later_page(self) -> LiteralString:
        return self._page(_BEFORE.format(time=self.time))

    def _page(self, before: LiteralString) -> LiteralString:
        return self._statement(
            _PAGE.format(rows=self.rows, before=before, time=self.time),
            shown=_SHOWN.format(time=self.time),
            order=f" order by x.{self.time} desc, x.id desc",
        )

    async def page(
        self, tx: Transaction, request: PageRequest, parameters: Parameters, *, fields: Sequence[str] = ()
    ) -> list[Item]:
        """Return one row more than requested if more follow. The audit row names the requested rows. Raises
        RateLimited.
        """
        statement = self.first_page if request.after is None else self.later_page
        given = {**request.parameters, **parameters}
        return (await self._look(tx, statement, None, fields, self.meter, given)).found
