"""Keyset pagination: the cursor identifies the last row of a page, so a late page costs no more than the first
page.
"""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar
from uuid import UUID

from app.errors import InvalidInput

DEFAULT_PAGE_SIZE = 25
MAX_PAGE_SIZE = 100
_MAX_CURSOR_LENGTH = 200
_LOWEST_ID = UUID(int=0)
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NUMBER = 2**31 - 1
Item = TypeVar("Item")


@dataclass(frozen=True)
class Cursor:
    """A position in a list that is ordered by time and id, newest first."""

    at: datetime
    id: UUID

    @classmethod
    def of_number(cls, number: int) -> "Cursor":
        """Return a position in a list that is ordered by a number instead of a time."""
        return cls(_NO_TIME, UUID(int=number))

    @property
    def number(self) -> int:
        """Return the number of a position in a list that is ordered by a number, at most the largest 32-bit integer."""
        return min(self.id.int, _MAX_NUMBER)

    def encode(self) -> str:
        """Return the cursor as an opaque, URL-safe string."""
        return base64.urlsafe_b64encode(json.dumps([self.at.isoformat(), str(self.id)]).encode()).decode()


@dataclass(frozen=True)
class PageRequest:
    """The size of a page, and the cursor `after` which the page begins. A cursor of None means the beginning of the
    list.
    """

    first: int
    after: Cursor | None

    def before(self, until: datetime | None) -> "PageRequest":
        """Return a page request like this one, but only for rows that are also older than `until`. An `until`
        without a time zone is read as UTC. The earlier of `until` and the cursor becomes the only upper bound in
        the SQL. If the SQL had both bounds, Postgres could start an index scan at `until` and read all rows down to
        the cursor.
        """
        if until is None:
            return self
        bound = Cursor(until if until.tzinfo else until.replace(tzinfo=UTC), _LOWEST_ID)
        is_lower = self.after is None or (bound.at, bound.id) < (self.after.at, self.after.id)
        return PageRequest(self.first, bound) if is_lower else self

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters of a statement that fetches one row more than `first`, which shows whether a next
        page exists.
        """
        return {
            "before_at": self.after.at if self.after else None,
            "before_id": self.after.id if self.after else None,
            "first": self.first,
            "page_size": self.first + 1,
        }


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A page of a list: at most `first` items in order, and whether more items follow."""

    items: tuple[Item, ...]
    has_next: bool

    @classmethod
    def of(cls, rows: list[Item], request: PageRequest) -> "Page[Item]":
        """Return a page that consists of these rows. If there is one row more than was requested, a next page
        follows.
        """
        return cls(tuple(rows[: request.first]), len(rows) > request.first)


def page_request(first: int, after: str | None, *, most: int = MAX_PAGE_SIZE) -> PageRequest:
    """Validate a client's page arguments. Raises InvalidInput (bad_page_size, bad_cursor)."""
    if not 1 <= first <= most:
        raise InvalidInput("bad_page_size", minimum=1, maximum=most)
    return PageRequest(first, None if after is None else decode_cursor(after))


def decode_cursor(text: str) -> Cursor:
    """Return the position that a cursor names. Raises InvalidInput (bad_cursor)."""
    if len(text) > _MAX_CURSOR_LENGTH:
        raise InvalidInput("bad_cursor")
    try:
        at, row_id = json.loads(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True))
        cursor = Cursor(datetime.fromisoformat(at), UUID(row_id))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput("bad_cursor") from error
    if cursor.at.tzinfo is None:
        raise InvalidInput("bad_cursor")
    return cursor
