"""The services of other companies that receive PHI."""

from enum import StrEnum


class VendorService(StrEnum):
    """A service that receives PHI, for which production needs a business associate agreement in the register."""

    DATABASE = "DATABASE"
    STORAGE = "STORAGE"
    VIDEO = "VIDEO"
    SPEECH = "SPEECH"
    LANGUAGE = "LANGUAGE"
    OTHER = "OTHER"
