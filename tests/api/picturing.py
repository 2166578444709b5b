"""Stores thumbnails of recordings."""

from uuid import UUID

from app.keys.service import make_recording_key
from app.thumbnails.model import thumbnail_field
from tests.api.harness import ApiHarness

JPEG = b"\xff\xd8\xff\xe0 a picture \xff\xd9"


async def make_key(harness: ApiHarness, recording: UUID) -> None:
    """Make the data key of a READY recording, as its transition to READY does."""
    async with harness.services.database.as_service("tests") as tx:
        await make_recording_key(tx, harness.worker_settings.keyring, recording)


async def store_thumbnail(harness: ApiHarness, recording: UUID, jpeg: bytes = JPEG) -> None:
    """Store a READY thumbnail."""
    await make_key(harness, recording)
    (key,) = await harness.rows(
        "select wrapped_key, root_key_id from private.recording_keys where recording_id = %s", recording
    )
    unwrapped = harness.worker_settings.keyring.unwrap(key["wrapped_key"], key["root_key_id"])
    await harness.rows("update resguardo.recordings set thumbnail_status = 'READY' where id = %s", recording)
    await harness.rows(
        "insert into private.thumbnails (recording_id, ciphertext) values (%s, %s)",
        recording,
        unwrapped.encrypt(thumbnail_field(recording), jpeg),
    )


async def request_thumbnail(harness: ApiHarness, recording: UUID) -> None:
    """Request the thumbnail of a READY recording, as its transition to READY does where thumbnails are on."""
    await make_key(harness, recording)
    async with harness.services.database.as_service("tests") as tx:
        await tx.run("select private.request_thumbnail(%(id)s)", {"id": recording})
