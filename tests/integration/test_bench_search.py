"""Tests of the functions behind `make bench-search`, with a few transcripts: the search and the benchmark's
reference search find the same recordings.
"""

from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress

from app.postgres.database import Database
from benchmarks import search
from benchmarks.search_practice import fill
from benchmarks.search_words import queries
from tests.databases import Cluster

TRANSCRIPTS = 10


@pytest.mark.anyio
async def test_search_and_its_reference_find_the_same_recordings(cluster: Cluster) -> None:
    text = dict(queries(1, TRANSCRIPTS))
    with cluster.clone("newer") as made:
        doctor, keyring = fill(made.superuser_url, TRANSCRIPTS, Progress(console=Console(file=StringIO())))
        database = Database(made.api_url, application="bench")
        await database.open()
        try:
            searches = search._searches(database, keyring, doctor)
            common = {name: await find(text["common word"]) for name, find in searches.items()}
            none = {name: await find(text["no hit"]) for name, find in searches.items()}
        finally:
            await database.close()
    assert len(common[search.OURS]) > 0
    assert common == dict.fromkeys(searches, common[search.OURS])
    assert none == dict.fromkeys(searches, frozenset())
