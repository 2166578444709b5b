"""Signs a note, or adds an addendum, in a process of its own, which a test kills."""

import asyncio
import sys
from uuid import UUID

from app.keys.keyring import Keyring
from app.notes.signing import NoteSigning
from app.postgres.database import Database
from app.postgres.selection import Selection
from tests.integration.recording_harness import asker

ADDENDUM = ("The patient called: no fever.",)


async def sign(signing: NoteSigning, act: str, doctor: UUID, recording_id: UUID) -> None:
    """Sign version 1 of the draft of the recording if `act` is `sign`. Otherwise add an addendum, with one idempotency
    key for each recording.
    """
    if act == "sign":
        await signing.sign(asker(doctor), recording_id, 1, Selection.of("version"))
    else:
        await signing.add_addendum(asker(doctor), recording_id, ADDENDUM, idempotency_key=str(recording_id))


async def _main(database_url: str, root_keys: str, act: str, doctor: UUID, recording_id: UUID) -> None:
    database = Database(database_url, application="test", max_size=1)
    await database.open()
    try:
        signing = NoteSigning(database, Keyring.parse(root_keys), totp_max_age_seconds=None)
        await sign(signing, act, doctor, recording_id)
    finally:
        await database.close()


if __name__ == "__main__":
    url, keys, given, person, recording = sys.argv[1:]
    asyncio.run(_main(url, keys, given, UUID(person), UUID(recording)))
