"""Who works here, and as what. Pure, no I/O."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Viewer:
    """The person who asks: `role` is clinician, compliance or patient; `patient_id` is set for patients."""

    user_id: UUID
    role: str
    aal: str
    patient_id: UUID | None
