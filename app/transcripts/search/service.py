"""Searches a doctor's own transcripts.

The index returns candidates. After the database has stored which candidates are opened, this process decrypts them
in memory, in a thread, and matches, ranks and cuts them. Only one transcript is decrypted at a time. A candidate
that cannot be decrypted is left out, counted, and logged by its recording id. If nothing else is found, the search
raises an error, so that an unreadable transcript never looks like an empty result.
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
from app.transcripts.encryption import Unsealed, unseal
from app.transcripts.model import SearchFilter
from app.transcripts.search.matches import Match, Snippet, match, ranked, snippet, turns_with
from app.transcripts.search.query_terms import Query, parse_query
from app.transcripts.search.word_index import NO_WORD, blind_query
from app.transcripts.store import Candidate
from app.transcripts.transcript_format import in_order, turn_of, words_of

log = logging.getLogger(__name__)

MOST_CANDIDATES: Final = 500
"""The maximum number of candidates: the newest ones, at most 40 MiB. A search with more candidates says so."""
MOST_SEARCHES: Final = 4
"""The maximum number of concurrent searches in a process, which bounds their memory. One person gets half of them;
the others wait.
"""
_BOUNDS: Final = Bounds(
    running=MOST_SEARCHES, running_per_key=MOST_SEARCHES // 2, waiting=40, waiting_per_key=10
)


@dataclass(frozen=True)
class Hit:
    """A recording that matches."""

    recording_id: UUID
    consultation_id: UUID
    recorded_at: datetime
    snippet: Snippet = field(repr=False)


@dataclass(frozen=True)
class Hits:
    """The hits: best first, or in order of time for one recording or consultation. `is_cut` says that older
    recordings were not examined.

    `unreadable` is the number of candidates that could not be decrypted.
    """

    hits: tuple[Hit, ...]
    is_cut: bool
    unreadable: int


class TranscriptSearch:
    """The service of the API."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._searching = ConcurrencyLimit("too_many_at_once", _BOUNDS)

    async def search(self, asker: Asker, text: str, where: SearchFilter, *, first: int) -> Hits:
        """Return the person's recordings that contain all terms. Within one recording or consultation, return each
        turn with a term.

        Raises InvalidInput (search_empty, search_too_long, search_too_many_terms), RateLimited (quota_pages,
        too_many_at_once, server_busy), and the reason why transcripts could not be decrypted if nothing else was
        found.
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
    """One running search, and the reasons why candidates could not be decrypted."""

    keyring: Keyring
    query: Query
    unreadable: dict[UUID, Conflict | NotFound] = field(default_factory=dict)

    def best(self, candidates: Sequence[Candidate]) -> Iterator[Hit]:
        """Yield one turn of each recording. Transcripts that are shown are decrypted twice, so that only one is in
        memory at a time.
        """
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
        """Yield all matching turns in order of time."""
        for candidate in candidates:
            with self._leaving_out(candidate):
                unsealed = unseal(self.keyring, candidate.sealed)
                found = turns_with(words_of(unsealed.words, unsealed.corrections), self.query)
                for number in in_order(unsealed.words, found):
                    yield _hit(candidate, unsealed, number, self.query)

    @contextmanager
    def _leaving_out(self, candidate: Candidate) -> Iterator[None]:
        """Skip a candidate that cannot be decrypted, because its text was changed or its key is missing."""
        try:
            yield
        except (Conflict, NotFound) as error:
            told = type(error)(error.reason, **error.detail)  # without its frames, which contain text
            self.unreadable[candidate.sealed.recording_id] = told


def _hit(candidate: Candidate, unsealed: Unsealed, turn_number: int, query: Query) -> Hit:
    turn = turn_of(unsealed.words, turn_number, unsealed.corrections)
    return Hit(
        candidate.sealed.recording_id, candidate.consultation_id, candidate.recorded_at, snippet(turn, query)
    )
