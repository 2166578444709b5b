"""Test helpers that request the deletion of a recording and destroy it."""

from uuid import UUID

from tests.api.harness import ApiHarness


async def request_deletion(harness: ApiHarness, recording: UUID, *, grace: str = "7 days") -> UUID:
    """Request the deletion of a recording as its doctor, and return the id of the deletion. `grace` is how long the
    requested deletion can be undone.
    """
    (row,) = await harness.rows(
        "insert into resguardo.deletions (recording_id, consultation_id, doctor_id, patient_id, ground, reason,"
        " requested_by, undo_until) select r.id, r.consultation_id, r.doctor_id, r.patient_id, 'REQUEST', 'DUPLICATE',"
        " r.doctor_id, private.now() + %s::interval from resguardo.recordings as r where r.id = %s returning id",
        grace,
        recording,
    )
    found: UUID = row["id"]
    return found


async def destroy_recording(harness: ApiHarness, recording: UUID) -> None:
    """Destroy a recording and store its certificate, as the worker does."""
    await request_deletion(harness, recording, grace="-1 minute")
    await harness.services.destroyer.run_once()
