"""Composes one SQL statement from the fields that a client selects, however deep they are nested. The statement also
writes the audit row of the read, which names every entity that the answer shows, and counts the read against a quota.

`app/postgres/entities.py` describes the entities. Row level security applies to each table of the statement, because
the statement runs with the database role of the person. All parts of a statement are constant texts of this
repository, and a client's values are passed as parameters.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, LiteralString, TypeAlias, cast

from pydantic_core import from_json

from app.postgres.audited import Meter
from app.postgres.database import Parameters, Transaction
from app.postgres.page_rows import FIRST_ROWS, select_page
from app.postgres.paging import Page, PageRequest, page_request
from app.postgres.selection import SelectedField, Selection

Row: TypeAlias = dict[str, Any]
"""A shown entity: the values of the selected fields by their names in snake_case, as JSON."""

MOST_NESTED: Final = 25
"""The largest page of a list inside another entity."""

_COLUMN: Final = re.compile(r"\{row\}\.(\w+)")
_STATEMENT: Final = """\
with page as materialized (
{rows}
),

shown as materialized (
    select
        p.{time} as shown_at, p.id as shown_id, {patients} as patient_id, {consultations} as consultation_id,
        (select row_to_json(x) from (select {values}) as x) as node
    from {shown} as p
),

seen as materialized (
    select
        private.record_lookup(
            %(audit_action)s, '{entity_type}', '{asked_type}', {asked}, {is_visible}, {entities},
            {patient_ids},
            {consultation_ids}, count(*)::integer, %(audit_fields)s,
            %(audit_meter)s
        ) as recorded
    from shown as s
)

select
    (select s.recorded from seen as s) as recorded,
    coalesce((select json_agg(s.node order by s.shown_at desc, s.shown_id desc)::text from shown as s), '[]') as found,
    (select count(*) from page) > (select count(*) from shown) as has_next"""

_DISTINCT: Final[LiteralString] = "array_remove(array_agg(distinct s.{column}), null)"
_DISTINCT_OF_ARRAYS: Final[LiteralString] = (
    "array(select distinct i.id from shown as m cross join lateral unnest(m.{column}) as i (id))"
)


@dataclass(frozen=True)
class One:
    """A relation to at most one entity. With `order`, it is the first entity in this order."""

    entity: str
    on: LiteralString
    order: LiteralString | None = None


@dataclass(frozen=True)
class Many:
    """A relation to a few entities that are shown as a list."""

    entity: str
    on: LiteralString
    order: LiteralString


@dataclass(frozen=True)
class Paged:
    """A relation to many entities that are shown in pages, newest first by the column `time` and then by id."""

    entity: str
    on: LiteralString
    time: LiteralString


Relation = One | Many | Paged


@dataclass(frozen=True, kw_only=True)
class Entity:
    """How the API reads a type. In all SQL, `{row}` is a row of `table`, and `{parent}` is the row that shows it.

    `values` has the SQL of each field that is not a column of its own name. `relations` has the other entities that
    the type shows. `inside` has, by the name of a field of `values`, the name of an entity that is part of each item of
    the field's value. `patients` and `consultations` are the ids for the audit row, and arrays of ids if
    `has_many_subjects` is true. `shared_by` is the column with the consultation, if clinicians also see the rows of
    consultations that other doctors share with them. The database roles in `hidden_from` have no right on the table,
    so an entity that shows this entity shows them null or an empty list.
    """

    type: LiteralString
    table: LiteralString
    values: Mapping[str, LiteralString] = field(default_factory=dict)
    relations: Mapping[str, Relation] = field(default_factory=dict)
    inside: Mapping[str, LiteralString] = field(default_factory=dict)
    patients: LiteralString = "{row}.patient_id"
    consultations: LiteralString = "{row}.consultation_id"
    shared_by: LiteralString | None = None
    hidden_from: Collection[str] = ()
    has_many_subjects: bool = False


def list_columns(entity: Entity, selection: Selection, *needed: str) -> str:
    """Return the columns of the entity's table, in a row `r`, that a statement needs for the selected fields."""
    texts = [entity.patients, entity.consultations]
    for one in selection.fields:
        relation = entity.relations.get(one.python_name)
        if relation is not None:
            texts.append(relation.on.replace("{row}", "{other}").replace("{parent}", "{row}"))
        else:
            texts.append(entity.values.get(one.python_name, "{row}." + one.python_name))
    columns = dict.fromkeys(("id", *needed))
    columns.update(dict.fromkeys(name for text in texts for name in _COLUMN.findall(text)))
    return ", ".join(f"r.{name}" for name in columns)


@dataclass
class Composition:
    """The parts of a statement while it is composed. `paths` has the JSON path of each nested entity."""

    entities: Mapping[str, Entity]
    role: str
    parameters: dict[str, Any] = field(default_factory=dict)
    paths: list[tuple[LiteralString, str]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def values(self, entity: Entity, selection: Selection, row: str, path: str) -> list[str]:
        """Return the SQL of the selected fields of the entity in the row `row`, each with its name."""
        values = [f"{row}.id"]
        for one in selection.fields:
            relation = entity.relations.get(one.python_name)
            if relation is not None:
                values.append(f'{self._related(one, relation, row, path)} as "{one.key}"')
            elif one.python_name != "id":
                value = entity.values.get(one.python_name, "{row}." + one.python_name)
                values.append(f'{value.format(row=row)} as "{one.python_name}"')
                part = entity.inside.get(one.python_name)
                if part is not None and part in one.below.names():
                    self.paths.append((self.entities[part].type, f"{path}.{one.python_name}[*].{part}"))
        return values

    def _related(self, one: SelectedField, relation: Relation, parent: str, path: str) -> str:
        entity = self.entities[relation.entity]
        if self.role in entity.hidden_from:
            return "null::json" if isinstance(relation, One) else "'[]'::json"
        number = next(self.numbers)
        row = f"r{number}"
        below, path = one.below, f"{path}.{one.key}"
        limit = ""
        on = relation.on.format(row=row, parent=parent)
        if isinstance(relation, Paged):
            below = below.below("edges", "node")
            request = page_request(one.arguments["first"], one.arguments["after"], most=MOST_NESTED)
            named = {f"{name}_{number}": value for name, value in request.parameters.items()}
            self.parameters |= named
            order = f"{row}.{relation.time} desc, {row}.id desc"
            limit = f" limit %(page_size_{number})s"
            path += f"[0 to {request.first - 1}]"  # the row after the page is not shown
            if request.after is not None:
                on += f" and ({row}.{relation.time}, {row}.id) < (%(before_at_{number})s, %(before_id_{number})s)"
        else:
            order = "" if relation.order is None else relation.order.format(row=row)
            limit = " limit 1" if isinstance(relation, One) and order else ""
        self.paths.append((entity.type, path))
        values = self.values(entity, below, row, path)
        if isinstance(relation, Paged):
            values.append(f"{row}.{relation.time} as shown_at")
        ordered = f" order by {order}" if order else ""
        rows = f"select {', '.join(values)} from {entity.table} as {row} where {on}{ordered}{limit}"
        if isinstance(relation, One):
            return f"(select row_to_json(x) from ({rows}) as x)"
        return f"(select coalesce(json_agg(x), '[]') from ({rows}) as x)"

    def shown_entities(self, entity_type: LiteralString) -> str:
        """Return the SQL of the shown entities, for the audit row."""
        nested = "".join(
            f", jsonb_build_object('type', '{kind}', 'ids', coalesce(jsonb_path_query_array("
            f"jsonb_agg(s.node), '$[*]{path}.id'), '[]'))"
            for kind, path in self.paths
        )
        own = f"jsonb_build_object('type', '{entity_type}', 'ids', coalesce(jsonb_agg(s.shown_id), '[]'))"
        return f"jsonb_build_array({own}{nested})"


@dataclass(frozen=True)
class Shown:
    """The result of an audited read: the rows, and whether another page follows."""

    rows: list[Row]
    has_next: bool


@dataclass(frozen=True, kw_only=True)
class _Reads:
    entities: Mapping[str, Entity]
    entity: str
    action: LiteralString
    meter: Meter | None = "pages"
    asked: LiteralString = "null"
    """The id of the entity that the caller named, as SQL. If no row is found, the audit row says whether it exists."""
    asked_type: LiteralString | None = None
    """The type of that entity, if it is not the entity's own type."""
    is_visible: LiteralString = "false"
    """Whether the named entity is visible to the caller although no row is found, as SQL."""

    @property
    def _entity(self) -> Entity:
        return self.entities[self.entity]

    def _compose(
        self, composition: Composition, selection: Selection, *, rows: str, shown: str, time: str
    ) -> LiteralString:
        entity = self._entity
        subjects = _DISTINCT_OF_ARRAYS if entity.has_many_subjects else _DISTINCT
        values = composition.values(entity, selection, "p", "")
        values.append(f"p.{time} as shown_at")
        statement: str = _STATEMENT.format(
            rows=rows,
            time=time,
            shown=shown,
            values=", ".join(values),
            patients=entity.patients.format(row="p"),
            consultations=entity.consultations.format(row="p"),
            patient_ids=subjects.format(column="patient_id"),
            consultation_ids=subjects.format(column="consultation_id"),
            entity_type=entity.type,
            asked_type=self.asked_type or entity.type,
            asked=self.asked,
            is_visible=self.is_visible,
            entities=composition.shown_entities(entity.type),
        )
        return cast("LiteralString", statement)  # type: ignore[redundant-cast] # mypy takes LiteralString for str

    async def _show(
        self,
        tx: Transaction,
        statement: LiteralString,
        selection: Selection,
        parameters: Parameters,
        *,
        action: LiteralString | None,
        is_counted: bool = True,
        besides: Collection[str] = (),
    ) -> Shown:
        about = {
            "audit_action": action or self.action,
            "audit_fields": sorted({*selection.paths, *besides}),
            "audit_meter": self.meter if is_counted else None,
        }
        row = await tx.one(statement, {**parameters, **about})
        if row is None or row["recorded"] is None:
            raise RuntimeError("the statement has written no audit row")
        return Shown(from_json(row["found"]), row["has_next"])


@dataclass(frozen=True, kw_only=True)
class EntityRead(_Reads):
    """An audited read of one entity."""

    where: LiteralString
    """The condition that names the entity, whose row is `r`."""

    async def show(
        self,
        tx: Transaction,
        selection: Selection,
        parameters: Parameters,
        *,
        action: LiteralString | None = None,
        is_counted: bool = True,
        besides: Collection[str] = (),
    ) -> Row | None:
        """Write the audit row and return the entity. Return None if it does not exist or is hidden from the caller.
        If `is_counted` is true, the read counts against a quota. `besides` has the paths of further fields that the
        caller shows, such as a token, for the audit row. Raises RateLimited.
        """
        composition = Composition(self.entities, tx.role)
        rows = f"select {list_columns(self._entity, selection)} from {self._entity.table} as r where {self.where}"
        statement = self._compose(composition, selection, rows=rows, shown="page", time="id")
        shown = await self._show(
            tx,
            statement,
            selection,
            {**parameters, **composition.parameters},
            action=action,
            is_counted=is_counted,
            besides=besides,
        )
        return shown.rows[0] if shown.rows else None


@dataclass(frozen=True, kw_only=True)
class EntityList(_Reads):
    """An audited read of a list in pages, newest first by the column `time` and then by id."""

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
    one_of: Mapping[str, LiteralString] = field(default_factory=dict)
    """By the name of a filter that is an array, the condition for one of its values, `v.value`. The table has an index
    that leads with the value's column and then `time`, after the columns of policies. Needs different values.
    """

    def _rows(self, given: Collection[str], selection: Selection, role: str, *, is_later: bool) -> str:
        return select_page(
            table=self._entity.table,
            columns=list_columns(self._entity, selection, self.time),
            time=self.time,
            given=given,
            is_later=is_later,
            always=self.always,
            conditions=self.conditions,
            narrow=self.narrow,
            one_of=self.one_of,
            shared_by=self._entity.shared_by if role == "clinician" else None,
        )

    async def page(
        self,
        tx: Transaction,
        request: PageRequest,
        filters: Parameters,
        selection: Selection,
        *,
        is_counted: bool = True,
    ) -> Page[Row]:
        """Write the audit row and return the rows of a page. A filter that is None is ignored. If `is_counted` is true,
        the read counts against a quota. Raises RateLimited.
        """
        composition = Composition(self.entities, tx.role)
        given = {name for name, value in filters.items() if value is not None}
        rows = self._rows(given, selection, tx.role, is_later=request.after is not None)
        statement = self._compose(
            composition, selection, rows=rows, shown=FIRST_ROWS.format(time=self.time), time=self.time
        )
        parameters = {**request.parameters, **filters, **composition.parameters}
        shown = await self._show(tx, statement, selection, parameters, action=None, is_counted=is_counted)
        return Page(tuple(shown.rows), shown.has_next)
