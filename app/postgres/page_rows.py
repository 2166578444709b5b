"""Composes the select of the rows of a page, newest first, for the statements of `audited.py` and `composer.py`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, LiteralString

FIRST_ROWS: Final = (
    "(select s.* from page as s order by s.{time} desc, s.id desc limit (select %(first)s::bigint))"
)
"""The rows of the page that are shown: the select of the page reads one row more, to see whether others follow."""

_BEFORE: Final = "(r.{time}, r.id) < ((select %(before_at)s::timestamptz), (select %(before_id)s::uuid))"
_PAGE: Final = """\
select {columns} from {table} as r{where}
order by r.{time} desc, r.id desc
limit (select %(page_size)s::bigint)"""
"""The limit is a subquery because the planner then expects a tenth of the rows, whatever the page size. It therefore
reads an index in the order of the list. With a small constant it may read and sort all rows of a person. A plan for
given values is no cheaper either, so Postgres soon keeps the generic plan.
"""
_FEW: Final = "(select r.* from {table} as r where {narrow} offset 0)"
"""A subquery with an offset is planned by itself, without the order of the list and its limit."""
_OWN: Final = "r.doctor_id = (select private.doctor())"
_SHARED: Final = "r.{shared_by} = any((select private.shared_consultation_ids())::uuid[])"
_ANY_OF: Final = "exists (select from unnest((select %({values})s::text[])) as v (value) where {condition})"
_OWN_AND_SHARED: Final = """\
select r.* from (
(
{own}
)
union all
(
{shared}
)
) as r
order by r.{time} desc, r.id desc
limit (select %(page_size)s::bigint)"""
"""The page of a clinician has two parts: the clinician's own rows, from an index in the order of the list, and the few
rows that other doctors share with the clinician. The policy checks each row of both parts. With the policy alone,
Postgres could use no index, because the policy compares two columns.
"""
_PAGE_OF_VALUES: Final = """\
select r.* from unnest((select %({values})s::text[])) as v (value)
cross join lateral (
{page}
) as r
order by r.{time} desc, r.id desc
limit (select %(page_size)s::bigint)"""
"""One page for each value of an array, from an index of value and time, and of these the first page. An index cannot
return the rows of several values in the order of time.
"""


def select_page(
    *,
    table: LiteralString,
    columns: str,
    time: LiteralString,
    given: Collection[str],
    is_later: bool,
    always: LiteralString | None,
    conditions: Mapping[str, LiteralString],
    narrow: Mapping[str, LiteralString],
    one_of: Mapping[str, LiteralString],
    shared_by: LiteralString | None = None,
) -> str:
    """Return the select of the rows of one page and of one row after it. `given` has the names of the given filters,
    and `is_later` says whether the page begins after a cursor. `shared_by` is the column with the consultation, if a
    clinician reads a table whose rows other doctors may share. The fields of `AuditedList` and `EntityList` describe
    the other arguments.
    """
    few = [text for name, text in narrow.items() if name in given]
    texts = [always] if always else []
    texts += [text for name, text in {**conditions, **one_of}.items() if name in given]
    if is_later:
        texts.append(_BEFORE.format(time=time))

    def select_rows(few: Sequence[str], texts: Sequence[str]) -> str:
        rows = _PAGE.format(
            columns=columns,
            table=_FEW.format(table=table, narrow=" and ".join(few)) if few else table,
            where=f"\nwhere {' and '.join(texts)}" if texts else "",
            time=time,
        )
        for name in one_of:
            if name in given:
                rows = _PAGE_OF_VALUES.format(values=name, page=rows, time=time)
        return rows

    if shared_by is None or few:
        return select_rows(few, texts)
    own = select_rows([], [_OWN, *texts])
    any_of = [_ANY_OF.format(values=name, condition=text) for name, text in one_of.items() if name in given]
    texts = [text for text in texts if text not in one_of.values()] + any_of
    shared = _PAGE.format(
        columns=columns,
        table=_FEW.format(table=table, narrow=_SHARED.format(shared_by=shared_by)),
        where=f"\nwhere {' and '.join(texts)}" if texts else "",
        time=time,
    )
    return _OWN_AND_SHARED.format(own=own, shared=shared, time=time)
