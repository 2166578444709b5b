"""Composes the statement of a read whose audit row an SQL function writes, because the function also returns encrypted
content. The statement reads the selected metadata, and gives the function the entities that the metadata shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString, cast

from psycopg.rows import DictRow

from app.postgres.composer import Composition, Entity, list_columns
from app.postgres.database import Parameters, Transaction
from app.postgres.selection import Selection

_STATEMENT: Final = """\
with page as materialized (
    select {columns} from {table} as r where {where}
),

shown as materialized (
    select p.id as shown_id, p.{order} as place, (select row_to_json(x) from (select {values}) as x) as node
    from page as p
)

select
    c.*,
    (select coalesce(json_agg(s.node order by s.place)::text, '[]') from shown as s) as metadata
from (select {entities} as entities from shown as s) as e
cross join lateral {content} as c"""


@dataclass(frozen=True, kw_only=True)
class ContentRead:
    """A read of encrypted content and of the metadata that belongs to it.

    `content` is the SQL function, as a source of rows. It gets the shown entities as `e.entities`. `where` is the
    condition of the entity's rows `r`, and `order` is the column by which the metadata is ordered.
    """

    entities: Mapping[str, Entity]
    entity: str
    where: LiteralString
    order: LiteralString
    content: LiteralString

    async def all(self, tx: Transaction, selection: Selection, parameters: Parameters) -> list[DictRow]:
        """Return the rows of the function. In each row, `metadata` is a JSON array with the rows of the entity. Raises
        InvalidInput (bad_page_size, bad_cursor).
        """
        statement, pages = self._compose(tx, selection)
        return await tx.all(statement, {**parameters, **pages})

    def check(self, tx: Transaction, selection: Selection) -> None:
        """Raise the errors of `all` about the selection, before the transaction reads anything."""
        self._compose(tx, selection)

    def _compose(self, tx: Transaction, selection: Selection) -> tuple[LiteralString, Parameters]:
        composition = Composition(self.entities, tx.role)
        entity = self.entities[self.entity]
        statement = _STATEMENT.format(
            columns=list_columns(entity, selection, self.order),
            table=entity.table,
            where=self.where,
            order=self.order,
            values=", ".join(composition.values(entity, selection, "p", "")),
            entities=composition.shown_entities(entity.type),
            content=self.content,
        )
        literal = cast("LiteralString", statement)  # type: ignore[redundant-cast] # mypy takes LiteralString for str
        return literal, composition.parameters
