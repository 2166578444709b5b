"""Reads ZIP archives with WinZip's AES-256 (AE-2) encryption, for tests. The code follows only WinZip's
specification.

https://www.winzip.com/en/support/aes-encryption/ (Encryption Specification AE-1 and AE-2, version 1.04, checked
2026-11-21): PBKDF2 with HMAC-SHA1 and 1,000 iterations, AES in counter mode with a little-endian counter that
starts at 1, and the first ten bytes of an HMAC-SHA1 of the ciphertext.
"""

import hashlib
import hmac
import io
import struct
import zipfile
import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_SALT, _KEY, _CHECK, _MAC = 16, 32, 2, 10


class WrongSecretError(Exception):
    """Raised if the given secret does not match the password verification value of the archive."""


class TamperedError(Exception):
    """Raised if the authentication code of a file does not match the file's data."""


def read_archive(archive: bytes, secret: str) -> dict[str, bytes]:
    """Return the content of each file in the archive by the file's name, in the order of the archive. Raises
    WrongSecretError or TamperedError, and AssertionError if the archive is not an AE-2 archive with AES-256.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as listed:
        return {entry.filename: _read(archive, entry, secret) for entry in listed.infolist()}


def _read(archive: bytes, entry: zipfile.ZipInfo, secret: str) -> bytes:
    assert entry.compress_type == 99
    assert entry.flag_bits & 1, "the entry is not encrypted"
    assert entry.CRC == 0, "an AE-2 entry has no CRC"
    version, vendor, strength, method = _aes_field(entry.extra)
    assert (version, vendor, strength, method) == (2, b"AE", 3, 8)
    name_length, extra_length = struct.unpack_from("<HH", archive, entry.header_offset + 26)
    start = entry.header_offset + 30 + name_length + extra_length
    data = archive[start : start + entry.compress_size]
    content = zlib.decompress(_decrypt(data, secret), wbits=-zlib.MAX_WBITS)
    assert len(content) == entry.file_size
    return content


def _aes_field(extra: bytes) -> tuple[int, bytes, int, int]:
    at = 0
    while at < len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 0x9901:
            version, vendor, strength, method = struct.unpack_from("<H2sBH", extra, at + 4)
            return version, vendor, strength, method
        at += 4 + size
    raise AssertionError("the entry has no AES field")


def _decrypt(data: bytes, secret: str) -> bytes:
    salt, check = data[:_SALT], data[_SALT : _SALT + _CHECK]
    sealed, mac = data[_SALT + _CHECK : -_MAC], data[-_MAC:]
    derived = hashlib.pbkdf2_hmac("sha1", secret.encode(), salt, 1000, 2 * _KEY + _CHECK)
    if derived[-_CHECK:] != check:
        raise WrongSecretError
    if hmac.new(derived[_KEY : 2 * _KEY], sealed, "sha1").digest()[:_MAC] != mac:
        raise TamperedError
    blocks = -(-len(sealed) // 16)
    counters = b"".join(number.to_bytes(16, "little") for number in range(1, blocks + 1))
    cipher = Cipher(algorithms.AES(derived[:_KEY]), modes.ECB()).encryptor()  # noqa: S305 - the code below builds counter mode
    stream = cipher.update(counters)[: len(sealed)]
    return (int.from_bytes(sealed, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(sealed), "big")
