"""A practice with every transcript stored twice: encrypted as in the product, and in clear text for the reference
search.

The practice has fifty doctors. The first doctor, who searches, owns a fifth of the transcripts. One transcript in
ten belongs to a consultation with the sensitivity PSYCHOTHERAPY. The module copies the rows as the superuser with
the triggers turned off, because the invented participants have given no consent.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import psycopg
from rich.progress import Progress

from app.keys.keyring import Keyring, new_key_line
from app.postgres.queries import Queries
from app.transcripts.search.word_index import IndexKey
from benchmarks.search_words import Kept, kept

DOCTORS: Final = 50
SHARE_PERCENT: Final = 20
"""The percentage of the searching doctor. 20% of 10,000 transcripts are eight for each working day of a year."""

PATIENTS: Final = 1_000
_AT_ONCE: Final = 200
_INDEX: Final = "select pg_get_indexdef('private.transcript_texts_terms_idx'::regclass)"
_INDEX_KEY: Final = "insert into private.word_index_key (wrapped_key, root_key_id) values (%s, %s)"
_sql = Queries(Path(__file__).with_name("search.sql"))


def fill(superuser_url: str, transcripts: int, progress: Progress) -> tuple[UUID, Keyring]:
    """Fill the database. Return the id of the searching doctor and the keyring that decrypts the transcripts."""
    keyring = Keyring.parse(new_key_line("bench"))
    index_key = keyring.new_data_key()
    doctors, recordings = [uuid4() for _ in range(DOCTORS)], [uuid4() for _ in range(transcripts)]
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("set maintenance_work_mem = '512MB'")
        connection.execute("update private.quotas set per_hour = 1000000000")
        connection.execute(
            _sql["practice"],
            {"doctors": doctors, "recordings": recordings, "patients": PATIENTS, "share": SHARE_PERCENT},
        )
        connection.execute(_INDEX_KEY, (index_key.wrapped, index_key.root_key_id))
        connection.execute(_sql["peer"])
        index = connection.execute(_INDEX).fetchone()
        connection.execute("drop index private.transcript_texts_terms_idx")
        secret = IndexKey(keyring.unwrap_secret(index_key.wrapped, index_key.root_key_id))
        _copy_all(connection, recordings, partial(kept, keyring=keyring, index_key=secret), progress)
        task = progress.add_task("indexing both", total=3)
        for statement in (*(index or ()), _sql["peer_filled"], "vacuum analyze"):
            connection.execute(statement)
            progress.advance(task)
    return doctors[0], keyring


def _copy_all(
    connection: psycopg.Connection,
    recordings: Sequence[UUID],
    make: Callable[[int, UUID], Kept],
    progress: Progress,
) -> None:
    task = progress.add_task("filling", total=len(recordings))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        for batch in _batches(enumerate(recordings)):
            numbers, ids = zip(*batch, strict=True)
            made = list(pool.map(make, numbers, ids, chunksize=10))
            _copy(connection, ids, made)
            progress.advance(task, len(ids))


def _batches(numbered: Iterable[tuple[int, UUID]]) -> Iterator[list[tuple[int, UUID]]]:
    left = iter(numbered)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


def _copy(connection: psycopg.Connection, ids: Sequence[UUID], made: Sequence[Kept]) -> None:
    tables: dict[str, tuple[list[str], list[tuple[object, ...]]]] = {
        "private.recording_keys (recording_id, wrapped_key, root_key_id)": (
            ["uuid", "bytea", "text"],
            [(id_, one.key.wrapped, one.key.root_key_id) for id_, one in zip(ids, made, strict=True)],
        ),
        "private.transcript_texts (recording_id, ciphertext, terms)": (
            ["uuid", "bytea", "int8[]"],
            [(id_, one.sealed, one.terms) for id_, one in zip(ids, made, strict=True)],
        ),
        "peer.texts (recording_id, body)": (
            ["uuid", "text"],
            [(id_, one.text) for id_, one in zip(ids, made, strict=True)],
        ),
    }
    for table, (types, rows) in tables.items():
        statement = f"copy {table} from stdin (format binary)"
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
