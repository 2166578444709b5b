"""Registered consultations for tests that use the services without the API."""

from dataclasses import dataclass
from typing import Self
from uuid import UUID

from app.consultations.model import ParticipantKind, Registration
from app.consultations.service import Consultations
from app.postgres.database import Asker
from app.postgres.selection import Selection


@dataclass(frozen=True)
class RegisteredParticipant:
    """A participant of a registered consultation."""

    id: UUID
    kind: ParticipantKind


@dataclass(frozen=True)
class RegisteredConsultation:
    """A registered consultation and its participants."""

    id: UUID
    room_name: str
    participants: tuple[RegisteredParticipant, ...]

    @classmethod
    async def register(cls, consultations: Consultations, asker: Asker, registration: Registration) -> Self:
        """Register a consultation as `asker`."""
        selection = Selection.of("id", "roomName", "participants.id", "participants.kind")
        row = await consultations.register(asker, registration, selection)
        return cls(
            UUID(row["id"]),
            row["room_name"],
            tuple(
                RegisteredParticipant(UUID(one["id"]), ParticipantKind(one["kind"]))
                for one in row["participants"]
            ),
        )
