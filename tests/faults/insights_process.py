"""Writes the insights into one recording in a process of its own, which a test kills.

The language service of this process answers as the extractive writer does, and notes each request in a file before it
answers, as a vendor notes what it charges for.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from app.insights.writer import InsightsWriter
from app.insights.writing import requests
from app.insights.writing.extractive import answer_request
from app.insights.writing.tasks import read_task
from app.integrations.language.port import LanguageAnswer, LanguageRequest, LanguageUsage
from app.keys.keyring import Keyring
from app.postgres.database import Database

PART_TURNS = 6


@dataclass(frozen=True)
class NotingLanguage:
    """A language service that notes the part of each request in a file."""

    bill: Path
    vendor: str = "llm.example.com"
    model: str = "test-model-1"

    async def write(self, request: LanguageRequest) -> LanguageAnswer:
        """Note the request, and return the answer."""
        with self.bill.open("a") as file:
            file.write(f"{read_task(request.task).part - 1}\n")
            file.flush()
            os.fsync(file.fileno())
        usage = LanguageUsage(self.vendor, self.model, 100, 0, 10)
        return LanguageAnswer(answer_request(request), usage)


async def write_insights(database_url: str, root_keys: str, recording_id: UUID, bill: Path) -> None:
    """Write the insights into the recording."""
    requests.MAX_PART_TURNS = PART_TURNS  # type: ignore[misc] # the tests need several parts of a short transcript
    database = Database(database_url, application="test", max_size=1)
    await database.open()
    try:
        await InsightsWriter(database, NotingLanguage(bill), Keyring.parse(root_keys)).write(recording_id)
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(write_insights(sys.argv[1], sys.argv[2], UUID(sys.argv[3]), Path(sys.argv[4])))
