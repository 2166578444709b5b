"""What a doctor finds: one's own recordings in which something was said.

The index finds candidates by their numbers; they are decrypted after the database has written which ones, in the
memory of this process alone, in a thread, and matched, ranked and shown there. No two transcripts are open at once.
One that cannot be opened is left out, told, and logged by its recording; where nothing else is found it is an error,
so that "nothing was found" is never said of words that could not be read.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final
from uuid import UUID

import anyio.to_thread

from app.concurrency import Bounds, ConcurrencyLimit
from app.errors import Conflict, NotFound
from app.identity import permissions
from app.keys.keyring import Keyring
from app.postgres.database import Asker, Database
from app.transcripts import store
from app.transcripts.blind import NO_WORD, blind_query
from app.transcripts.matching import Match, Snippet, match, ranked, snippet, turns_with
from app.transcripts.model import SearchFilter
from app.transcripts.query import Query, parse_query
from app.transcripts.sealing import Unsealed, unseal
from app.transcripts.store import Candidate
from app.transcripts.stored import in_order, turn_of, words_of

log = logging.getLogger(__name__)

MOST_CANDIDATES: Final = 500
"""The newest that the index finds are ranked, at most 40 MiB of them; a search that finds more says so."""
MOST_SEARCHES: Final = 4
"""At once in a process, so that their memory is bounded; half of them for one person. The others wait."""
_BOUNDS: Final = Bounds(
    running=MOST_SEARCHES, running_per_key=MOST_SEARCHES // 2, waiting=40, waiting_per_key=10
)


@dataclass(frozen=True)
class Hit:
    """A recording in which it was said."""

    recording_id: UUID
    consultation_id: UUID
    recorded_at: datetime
    snippet: Snippet = field(repr=False)


@dataclass(frozen=True)
class Hits:
    """Best first, or of one recording or consultation as it was said; `is_cut` where older ones were not looked at.

    `unreadable` is how many may have it and could not be opened.
    """

    hits: tuple[Hit, ...]
    is_cut: bool
    unreadable: int


class TranscriptSearch:
    """The API's part of the service."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._searching = ConcurrencyLimit("too_many_at_once", _BOUNDS)

    async def search(self, asker: Asker, text: str, where: SearchFilter, *, first: int) -> Hits:
        """The person's own recordings in which all of it was said; of one, or one consultation, each turn with some.

        Raises InvalidInput (search_empty, search_too_long, search_too_many_terms), RateLimited (quota_pages,
        too_many_at_once, server_busy), and why words could not be opened where nothing else was found.
        """
        query = parse_query(text)
        access = permissions.SEARCH_TRANSCRIPTS.on()
        async with self._searching.slot(asker.person):
            async with self._database.as_user(asker, access) as tx:
                index_key = await store.index_key(tx, self._keyring)
                candidates = await store.search(
                    tx,
                    blind_query(index_key, query) if index_key else {NO_WORD},
                    where,
                    most=MOST_CANDIDATES,
                )
            looking = _Looking(self._keyring, query)
            is_everywhere = where.consultation_id is None and where.recording_id is None
            shown = looking.best if is_everywhere else looking.every_turn
            hits = await anyio.to_thread.run_sync(lambda: tuple(islice(shown(candidates.found), first)))
        for recording_id, error in looking.unreadable.items():
            log.error("words cannot be opened: recording=%s %s", recording_id, error.reason)
        if looking.unreadable and not hits:
            raise next(iter(looking.unreadable.values()))
        return Hits(hits, candidates.is_cut, len(looking.unreadable))


@dataclass(frozen=True)
class _Looking:
    """One search at work, and why which recordings could not be opened for it."""

    keyring: Keyring
    query: Query
    unreadable: dict[UUID, Conflict | NotFound] = field(default_factory=dict)

    def best(self, candidates: Sequence[Candidate]) -> Iterator[Hit]:
        """One turn of each recording. What is shown is decrypted twice: no two transcripts are in memory at once."""
        found: list[tuple[Candidate, Match]] = []
        for candidate in candidates:
            with self._leaving_out(candidate):
                unsealed = unseal(self.keyring, candidate.sealed)
                matched = match(words_of(unsealed.words, unsealed.corrections), self.query)
                if matched is not None:
                    found.append((candidate, matched))
        for candidate, matched in ranked(found):
            with self._leaving_out(candidate):
                unsealed = unseal(self.keyring, candidate.sealed)
                yield _hit(candidate, unsealed, matched.turn_number, self.query)

    def every_turn(self, candidates: Sequence[Candidate]) -> Iterator[Hit]:
        """In the order in which it was said."""
        for candidate in candidates:
            with self._leaving_out(candidate):
                unsealed = unseal(self.keyring, candidate.sealed)
                found = turns_with(words_of(unsealed.words, unsealed.corrections), self.query)
                for number in in_order(unsealed.words, found):
                    yield _hit(candidate, unsealed, number, self.query)

    @contextmanager
    def _leaving_out(self, candidate: Candidate) -> Iterator[None]:
        """A candidate whose words are not as they were written, or whose key is not here."""
        try:
            yield
        except (Conflict, NotFound) as error:
            told = type(error)(error.reason, **error.detail)  # without its frames, which hold words
            self.unreadable[candidate.sealed.recording_id] = told


def _hit(candidate: Candidate, unsealed: Unsealed, turn_number: int, query: Query) -> Hit:
    turn = turn_of(unsealed.words, turn_number, unsealed.corrections)
    return Hit(
        candidate.sealed.recording_id, candidate.consultation_id, candidate.recorded_at, snippet(turn, query)
    )
