"""Reads the duration of a FLAC file from its first metadata block, without decoding the sound."""

from app.errors import InvalidInput

_MAGIC = b"fLaC"
_STREAMINFO = ((0, 0, 0, 34), (0x80, 0, 0, 34))
"""The header of the block: if other metadata blocks follow, and if none follows."""
_RATE_AND_TOTAL = slice(18, 26)


def duration_ms(flac: bytes) -> int:
    """Return the duration of the FLAC file in milliseconds. Raises InvalidInput (speech_refused) if the bytes are
    not FLAC, or the file states no duration. The first metadata block of a FLAC file is STREAMINFO with 34 bytes.
    The 11th to 18th byte of STREAMINFO contain the sample rate (20 bits), the channels and the sample depth (8
    bits), and the number of samples (36 bits, 0 if unknown). See RFC 9639, 8.2.
    """
    packed = int.from_bytes(flac[_RATE_AND_TOTAL], "big")
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    is_whole = (
        len(flac) >= _RATE_AND_TOTAL.stop and flac.startswith(_MAGIC) and tuple(flac[4:8]) in _STREAMINFO
    )
    if not is_whole or rate == 0 or samples == 0:
        raise InvalidInput("speech_refused")
    return samples * 1000 // rate
