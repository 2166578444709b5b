"""Emergency access. Pure."""

from enum import StrEnum


class EmergencyReason(StrEnum):
    """Why a clinician needs emergency access to a patient of another doctor."""

    MEDICAL_EMERGENCY = "MEDICAL_EMERGENCY"
    RISK_OF_HARM = "RISK_OF_HARM"
    DOCTOR_UNREACHABLE = "DOCTOR_UNREACHABLE"
    DISASTER = "DISASTER"
