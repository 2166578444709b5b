"""Idempotency keys: a client that has lost the answer to a mutation repeats the call with the same key, and the
mutation takes effect once.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

from app.errors import InvalidInput
from app.postgres.database import Database, Transaction
from app.postgres.queries import Queries

MAX_KEY_LENGTH: Final = 128
BATCH: Final = 1000
"""How many keys private.delete_old_idempotency_keys() deletes at most."""

Mutation = Literal[
    "inviteGuest",
    "recordConsent",
    "withdrawConsent",
    "startRecording",
    "correctTranscript",
    "attributeTurn",
    "addAddendum",
    "writeSessionNote",
    "writePsychotherapyNote",
    "askTranscript",
    "exportAuditEvents",
    "recordDisclosure",
    "suspendDisclosures",
    "requestAmendment",
    "recordAmendmentRequest",
    "openBreachAssessment",
    "shareConsultation",
    "recordSharingAuthorization",
]
_sql = Queries(Path(__file__).with_name("queries.sql"))


class RepeatableCall:
    """One call of a mutation, which the client may repeat with the same idempotency key and the same input.

    The database stores only the SHA-256 of the key, and the HMAC of the input with the key as its secret.
    """

    def __init__(self, mutation: Mutation, key: str | None, *given: str | int | UUID | None) -> None:
        """`key` is None if the client sent no key. The call then always takes effect. `given` contains all values
        of the mutation's input except the key. Raises InvalidInput (bad_idempotency_key).
        """
        if key is not None and not (1 <= len(key) <= MAX_KEY_LENGTH and key.isprintable()):
            raise InvalidInput("bad_idempotency_key", maximum=MAX_KEY_LENGTH)
        secret = (key or "").encode()
        message = json.dumps([mutation, *given], default=str).encode()
        self._has_key = key is not None
        self._parameters = {
            "mutation": mutation,
            "key_sha256": hashlib.sha256(secret).digest(),
            "input_mac": hmac.digest(secret, message, "sha256"),
        }

    @property
    def has_key(self) -> bool:
        """Return whether the client sent a key."""
        return self._has_key

    async def claim(self, tx: Transaction) -> UUID | None:
        """Return the entity that an earlier call with this key returned, or None if this call must take effect. If
        another transaction has claimed the key, wait for the end of that transaction. A rollback undoes the claim.

        Raises Conflict (idempotency_key_reused) if the input of the earlier call differs.
        """
        if not self._has_key:
            return None
        entity_id: UUID | None = await tx.value(_sql["claim"], self._parameters)
        return entity_id

    async def settle(self, tx: Transaction, entity_id: UUID) -> None:
        """Store the entity that this call returns. The transaction must be the one in which the call took effect."""
        if self._has_key:
            await tx.run(_sql["settle"], {**self._parameters, "entity_id": entity_id})


class IdempotencyKeys:
    """The leader's periodic task that deletes old idempotency keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_old(self) -> None:
        """Delete the keys that are older than 24 hours, in batches of one transaction each."""
        deleted = BATCH
        while deleted == BATCH:
            async with self._database.as_service("delete_idempotency_keys") as tx:
                deleted = await tx.value(_sql["delete_old"])
