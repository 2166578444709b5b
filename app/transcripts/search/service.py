"""Searches the transcripts of a doctor's own recordings. The word index returns candidates, which are transcripts
that may contain the terms of the search. A thread of the API process decrypts the candidates in memory, matches and
ranks them, and cuts snippets. The search decrypts only one transcript at a time. It leaves out a candidate that cannot
be decrypted, counts it, and opens an alert with its recording id. If some candidates cannot be decrypted and none of
the others matches, the search raises an error. A search thus never seems to have no result only because transcripts
are unreadable.

All of this is one transaction. Its first statement stores which candidates the API gets, its last statement reads the
selected metadata of the hits and of no other candidate, and its commit writes one audit row that names both. The
answer leaves the API only after the commit.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final
from uuid import UUID

import anyio.to_thread

from app.alerts.service import report_unreadable_transcripts
from app.concurrency import Bounds, ConcurrencyLimit
from app.errors import AppError, Conflict, NotFound
from app.identity import permissions
from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.database import Asker, Database, Transaction
from app.postgres.selection import Selection
from app.transcripts import store
from app.transcripts.encryption import DecryptedTranscript, decrypt_transcript
from app.transcripts.model import SearchFilter
from app.transcripts.search.matches import (
    Match,
    Snippet,
    cut_snippet,
    find_turns,
    match_transcript,
    rank_matches,
)
from app.transcripts.search.query_terms import Query, parse_query
from app.transcripts.search.word_index import NO_WORD, hash_query
from app.transcripts.store import Candidate
from app.transcripts.transcript_format import parse_turn, read_normalized_words, sort_by_start

log = logging.getLogger(__name__)

MAX_CANDIDATES: Final = 500
"""The maximum number of candidates: the newest ones, at most 40 MiB. A search with more candidates says so."""
MAX_SEARCHES: Final = 4
"""The maximum number of concurrent searches in a process, which bounds their memory. One person gets half of them;
the others wait.
"""
_BOUNDS: Final = Bounds(
    running=MAX_SEARCHES, running_per_key=MAX_SEARCHES // 2, waiting=40, waiting_per_key=10
)


@dataclass(frozen=True)
class Hit:
    """A recording that matches. `metadata` has the selected `recording` and `participant`."""

    recording_id: UUID
    snippet: Snippet = field(repr=False)
    metadata: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Hits:
    """The hits of a search, with the best hit first. In a search of one recording or consultation, the hits are in
    order of time. `is_cut` is true if the search had too many candidates and did not examine the oldest recordings.
    `unreadable_count` is the number of candidates that could not be decrypted.
    """

    hits: tuple[Hit, ...]
    is_cut: bool
    unreadable_count: int


class TranscriptSearch:
    """The service with which the API searches transcripts."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._searching = ConcurrencyLimit("too_many_at_once", _BOUNDS)

    async def search(
        self, asker: Asker, text: str, where: SearchFilter, selection: Selection, *, first: int
    ) -> Hits:
        """Return the recordings of the person whose transcripts contain all terms of the search. If the search is
        within one recording or consultation, return each turn that has a term of the search.

        Raises InvalidInput (search_empty, search_too_long, search_too_many_terms, bad_page_size, bad_cursor) or
        RateLimited (quota_pages, too_many_at_once, server_busy). If some candidates cannot be decrypted and none of
        the others matches, the method raises the error of the decryption.
        """
        query = parse_query(text)
        access = permissions.SEARCH_TRANSCRIPTS.on()
        async with self._searching.slot(asker.person), self._database.as_user(asker, access) as tx:
            store.check_hits(tx, selection)
            index_key = await store.read_index_key(tx, self._keyring)
            candidates = await store.search(
                tx,
                hash_query(index_key, query) if index_key else {NO_WORD},
                where,
                most=MAX_CANDIDATES,
                fields=selection.paths,
            )
            search = _Search(self._keyring, query)
            is_everywhere = where.consultation is None and where.recording_id is None
            found = search.best if is_everywhere else search.every_turn
            hits = await anyio.to_thread.run_sync(lambda: tuple(islice(found(candidates.found), first)))
            if hits and candidates.search_id is not None:
                hits = await _add_metadata(tx, candidates.search_id, hits, selection)
        for recording_id, error in search.unreadable.items():
            log.warning("transcript cannot be decrypted: recording=%s %s", recording_id, error.reason)
        if search.unreadable:
            await self._report(list(search.unreadable))
        if search.unreadable and not hits:
            raise next(iter(search.unreadable.values()))
        return Hits(hits, candidates.is_cut, len(search.unreadable))

    async def _report(self, recording_ids: Sequence[UUID]) -> None:
        """Open the alert about transcripts that cannot be decrypted. If that fails, the next search opens it."""
        try:
            await report_unreadable_transcripts(self._database, recording_ids)
        except AppError as error:
            log.warning("the alert about transcripts is not written: %s", error.summary)


@dataclass(frozen=True)
class _Search:
    """The state of one running search, with the reasons why candidates could not be decrypted."""

    keyring: Keyring
    query: Query
    unreadable: dict[UUID, Conflict | NotFound] = field(default_factory=dict)

    def best(self, candidates: Sequence[Candidate]) -> Iterator[Hit]:
        """Yield one turn of each recording that matches the search, with the best match first. If the method
        returns a turn of a transcript, it has decrypted the transcript twice, so that only one transcript is in
        memory at a time.
        """
        found: list[tuple[Candidate, Match]] = []
        for candidate in candidates:
            with self._skip_unreadable(candidate):
                decrypted = decrypt_transcript(self.keyring, candidate.encrypted)
                matched = match_transcript(
                    read_normalized_words(decrypted.text, decrypted.corrections), self.query
                )
                if matched is not None:
                    found.append((candidate, matched))
        for candidate, matched in rank_matches(found):
            with self._skip_unreadable(candidate):
                decrypted = decrypt_transcript(self.keyring, candidate.encrypted)
                yield _hit(candidate, decrypted, matched.turn_number, self.query)

    def every_turn(self, candidates: Sequence[Candidate]) -> Iterator[Hit]:
        """Yield all turns that match the search, in order of time."""
        for candidate in candidates:
            with self._skip_unreadable(candidate):
                decrypted = decrypt_transcript(self.keyring, candidate.encrypted)
                found = find_turns(read_normalized_words(decrypted.text, decrypted.corrections), self.query)
                for number in sort_by_start(decrypted.text, found):
                    yield _hit(candidate, decrypted, number, self.query)

    @contextmanager
    def _skip_unreadable(self, candidate: Candidate) -> Iterator[None]:
        """Skip a candidate that cannot be decrypted because its ciphertext was changed or its key is missing."""
        try:
            yield
        except (Conflict, NotFound) as error:
            # A new error, because the traceback of the original one refers to decrypted text.
            copy = type(error)(error.reason, **error.detail)
            self.unreadable[candidate.encrypted.recording_id] = copy


async def _add_metadata(
    tx: Transaction, search_id: UUID, hits: tuple[Hit, ...], selection: Selection
) -> tuple[Hit, ...]:
    named = [(hit.recording_id, hit.snippet.participant_id) for hit in hits]
    rows = await store.show_hits(tx, search_id, named, selection)
    return tuple(replace(hit, metadata=row) for hit, row in zip(hits, rows, strict=True))


def _hit(candidate: Candidate, decrypted: DecryptedTranscript, turn_number: int, query: Query) -> Hit:
    turn = parse_turn(decrypted.text, turn_number, decrypted.corrections)
    return Hit(candidate.encrypted.recording_id, cut_snippet(turn, query))
