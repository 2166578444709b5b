"""Reads data with SQL statements that also write the audit row of the read and count the read against a quota.

`AuditedRead` puts a plain select from a feature's `queries.sql` into the statement that also calls
`private.record_lookup()`. `AuditedList` composes the select from named fragments of SQL. The select contains only
the conditions of the given filters, and only the columns and nested values of the selected fields. Postgres can
therefore use an index for each combination of filters. The statement returns one row: `recorded`, the result of
`private.record_lookup()`, and `found`, the rows as a JSON array. The statement returns one row even if no rows are
found, because Postgres would not call `private.record_lookup()` if nothing used its result.

All parts of a statement are constant texts of this repository. A caller's values are passed as parameters.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Final, Generic, Literal, LiteralString, TypeVar

from pydantic import TypeAdapter

from app.postgres.database import Parameters, Transaction
from app.postgres.page_rows import FIRST_ROWS, select_page
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
            %(audit_action)s, '{entity_type}', '{asked_type}', {asked}, {is_visible},
            jsonb_build_array(jsonb_build_object('type', '{entity_type}', 'ids', to_jsonb({ids}))), {patients},
            {consultations}, count(*)::integer, %(audit_fields)s, %(audit_meter)s
        ) as recorded
    from {shown} as p
)

select
    (select s.recorded from seen as s) as recorded,
    coalesce((select json_agg(x{order})::text from (select p.*{details} from page as p) as x), '[]') as found"""
_HUMP: Final = re.compile("[A-Z]")
_DETAIL: Final = ", ({value}) as {name}"


@dataclass(frozen=True)
class Look(Generic[Item]):
    """The result of an audited read. `is_allowed` is False if the entity that the caller named is hidden from the
    caller or does not exist.
    """

    found: list[Item]
    is_allowed: bool


@dataclass(frozen=True, kw_only=True)
class _Audited(Generic[Item]):
    items: type[Item]
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
    details: Mapping[str, LiteralString] = field(default_factory=dict)
    """By name, a value that belongs to a row `p`, as SQL. A statement contains those that are selected. A value is a
    subquery and not a join, so that Postgres computes it only for the rows of the page.
    """

    def _statement(
        self,
        rows: LiteralString,
        selected: Collection[str],
        *,
        shown: LiteralString = "page",
        order: LiteralString = "",
    ) -> LiteralString:
        details = (
            _DETAIL.format(name=name, value=value) for name, value in self.details.items() if name in selected
        )
        return _STATEMENT.format(
            rows=rows,
            entity_type=self.entity_type,
            asked_type=self.asked_type or self.entity_type,
            asked=self.asked,
            is_visible=self.is_visible,
            ids="array[]::uuid[]" if self.ids is None else f"coalesce(array_agg({self.ids}), '{{}}')",
            patients=_distinct(self.patients),
            consultations=_distinct(self.consultations),
            shown=shown,
            order=order,
            details="".join(details),
        )

    @cached_property
    def _adapter(self) -> TypeAdapter[list[Item]]:
        return TypeAdapter(list[self.items])  # type: ignore[name-defined] # the type is a value here

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
        return Look(self._adapter.validate_json(row["found"]), row["recorded"])


def _distinct(column: LiteralString | None) -> LiteralString:
    return "'{}'" if column is None else f"array_remove(array_agg(distinct {column}), null)"


@dataclass(frozen=True, kw_only=True)
class AuditedRead(_Audited[Item]):
    """An audited read of one entity, or of a list that has no pages."""

    rows: LiteralString
    """A select with an `id`, and `patient_id` and `consultation_id` unless other fields say otherwise."""
    order: LiteralString | None = None
    """The order of the result, as columns of `x`."""

    def statement(self, selected: Collection[str] = ()) -> LiteralString:
        """Return the SQL statement that reads the rows and the selected details."""
        return self._statement(
            self.rows, selected, order="" if self.order is None else f" order by {self.order}"
        )

    async def look(
        self,
        tx: Transaction,
        parameters: Parameters,
        *,
        action: LiteralString | None = None,
        fields: Sequence[str] = (),
        selected: Collection[str] | None = None,
        is_counted: bool = True,
    ) -> Look[Item]:
        """Return the rows. The audit row lists the fields in `fields`. `selected` names the details to read; if it
        is None, `fields` names them. If `is_counted` is true, the read counts against the quota that `meter` names.
        Raises RateLimited.
        """
        meter = self.meter if is_counted else None
        statement = self.statement(fields if selected is None else selected)
        return await self._look(tx, statement, action, fields, meter, parameters)

    async def all(
        self,
        tx: Transaction,
        parameters: Parameters,
        *,
        action: LiteralString | None = None,
        fields: Sequence[str] = (),
        selected: Collection[str] | None = None,
        is_counted: bool = True,
    ) -> list[Item]:
        """Return the rows, or an empty list if the entity that the caller named is hidden from the caller."""
        looked = await self.look(
            tx, parameters, action=action, fields=fields, selected=selected, is_counted=is_counted
        )
        return looked.found


@dataclass(frozen=True, kw_only=True)
class AuditedList(_Audited[Item]):
    """An audited read of a list in pages, newest first by the column `time` and then by id.

    The columns of the list are the fields of the dataclass `items` that are not in `details`. A dataclass field
    without a default is always read. A dataclass field with a default is read if it is selected.
    """

    table: LiteralString
    """The table, whose rows are `r` in the conditions."""
    time: LiteralString
    always: LiteralString | None = None
    """The condition of every page."""
    conditions: Mapping[str, LiteralString] = field(default_factory=dict)
    """By the name of a filter, its condition. The value of the filter is the parameter of that name, in a subquery, so
    that the plan does not depend on the value.
    """
    narrow: Mapping[str, LiteralString] = field(default_factory=dict)
    """Conditions like these that leave few rows. Postgres reads them by the index of the condition, and never in the
    order of time.
    """
    values: Mapping[str, LiteralString] = field(default_factory=dict)
    """By the name of a filter that is an array, the condition for one of its values, `v.value`. The table has an index
    that leads with the value's column and then `time`, after the columns of policies. Needs different values.
    """
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By the name of a selected field, the columns that it needs, if they have other names."""
    meter: Meter | None = "pages"

    def statement(
        self, given: Collection[str] = (), selected: Collection[str] = (), *, is_later: bool = False
    ) -> LiteralString:
        """Return the SQL statement of a page with these filters and selected fields. `given` and `selected` contain
        the names of filters and fields as in the API.
        """
        names = {_HUMP.sub(r"_\g<0>", name).lower() for name in selected}
        rows = select_page(
            table=self.table,
            columns=", ".join(f"r.{name}" for name in self._columns(names)),
            time=self.time,
            given=given,
            is_later=is_later,
            always=self.always,
            conditions=self.conditions,
            narrow=self.narrow,
            one_of=self.values,
        )
        return self._statement(
            rows,
            names,
            shown=FIRST_ROWS.format(time=self.time),
            order=f" order by x.{self.time} desc, x.id desc",
        )

    def _columns(self, names: Collection[str]) -> list[str]:
        """Return the columns that the select needs, in the order of the dataclass's fields."""
        wanted = {column for name in names for column in self.columns.get(name, (name,))}
        return [
            one.name
            for one in fields(self.items)  # type: ignore[arg-type] # a list has a dataclass
            if one.name not in self.details and (one.default is MISSING or one.name in wanted)
        ]

    async def page(
        self,
        tx: Transaction,
        request: PageRequest,
        filters: Parameters,
        *,
        fields: Sequence[str] = (),
        selected: Collection[str] | None = None,
    ) -> list[Item]:
        """Return the rows of a page, and one more row if another page follows. The audit row lists the ids of the
        page's rows and the fields in `fields`. A filter that is None is ignored. `selected` names the fields to
        read; if it is None, `fields` names them. Raises RateLimited.
        """
        given = {name: value for name, value in filters.items() if value is not None}
        statement = self.statement(
            given, fields if selected is None else selected, is_later=request.after is not None
        )
        return (
            await self._look(tx, statement, None, fields, self.meter, {**request.parameters, **filters})
        ).found
