"""The check of the publishing for `resguardo check`."""

from collections.abc import Iterable
from typing import Final

from app.audit.publishing import store
from app.errors import Conflict
from app.postgres.database import Database
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.notes import SignedNote, VerifierKey

GRACE_SECONDS: Final = 600
"""How much later than AUDIT_PUBLISH_SECONDS a publication may be before the check fails."""


async def require_published(
    database: Database, *, publish_seconds: int, has_second: bool, witnesses: Iterable[VerifierKey]
) -> None:
    """Raise Conflict if a log has grown and was not published in time (audit_log_unpublished, or
    audit_log_second_bucket_behind), or if a witness did not cosign the newest published checkpoint
    (audit_log_not_cosigned).
    """
    async with database.as_service("check") as tx:
        overdue, second = await store.list_overdue_logs(
            tx, publish_seconds + GRACE_SECONDS, has_second=has_second
        )
        logs = await store.list_published_logs(tx, publish_seconds)
    if overdue:
        raise Conflict("audit_log_unpublished", what=", ".join(overdue))
    if second:
        raise Conflict("audit_log_second_bucket_behind", what=", ".join(second))
    newest = next((one.published_checkpoint for one in reversed(logs) if one.published_checkpoint), None)
    if newest is None:
        return
    try:
        given = SignedNote.parse(newest.encode()).signatures
    except TransparencyLogError:
        given = ()
    missing = [key.name for key in witnesses if not any(one.is_by(key) for one in given)]
    if missing:
        raise Conflict("audit_log_not_cosigned", what=", ".join(missing))
