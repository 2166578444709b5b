"""How long a chunk of FLAC is, by its own first block. It reads that block alone and decodes nothing."""

from app.errors import InvalidInput

_MAGIC = b"fLaC"
_STREAMINFO = ((0, 0, 0, 34), (0x80, 0, 0, 34))
"""The header of the block, where others follow and where none does."""
_RATE_AND_TOTAL = slice(18, 26)


def duration_ms(flac: bytes) -> int:
    """Milliseconds; raises InvalidInput("speech_refused") if it is no FLAC, or does not say how long it is.

    STREAMINFO is the first block: 34 bytes, of which 8 from the 11th on are the sample rate (20 bits), channels and
    depth (8), and the number of samples (36, of which 0 is unknown). RFC 9639, 8.2, checked 2026-11-21.
    """
    packed = int.from_bytes(flac[_RATE_AND_TOTAL], "big")
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    is_whole = (
        len(flac) >= _RATE_AND_TOTAL.stop and flac.startswith(_MAGIC) and tuple(flac[4:8]) in _STREAMINFO
    )
    if not is_whole or rate == 0 or samples == 0:
        raise InvalidInput("speech_refused")
    return samples * 1000 // rate
