"""Tests that an escrow file opens only with its passphrase. Whatever the reason is why an escrow file cannot be
opened, the error is the same and contains no details.
"""

import base64
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from app.errors import AppError, Conflict, InvalidInput
from app.keys import escrow as escrows
from app.keys.escrow import Escrow, read, seal, unseal, write_new
from app.keys.keyring import new_key_line

PASSPHRASE = "sixteen characters and more"
ESCROW = Escrow(
    deployment="practice",
    made_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
    root_keys=f"{new_key_line('b')},{new_key_line('a')}",
    certificate_signing_key=base64.b64encode(bytes(range(32))).decode(),
    certificate_former_public_keys=(base64.b64encode(bytes(range(1, 33))).decode(),),
)
SEALED = seal(ESCROW, PASSPHRASE)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """For tests that open an escrow file often, make the key derivation much faster, and return an escrow file that
    is sealed with this fast derivation.
    """

    def derive(passphrase: str, salt: bytes) -> bytes:
        return Scrypt(salt=salt, length=32, n=2, r=8, p=1).derive(passphrase.encode())

    monkeypatch.setattr(escrows, "_derive", derive)
    return seal(ESCROW, PASSPHRASE)


def test_escrow_opens_with_its_passphrase() -> None:
    assert unseal(SEALED, PASSPHRASE) == ESCROW
    assert unseal(SEALED, PASSPHRASE).keyring.ids == ("b", "a")


def test_escrow_made_twice_shares_nothing() -> None:
    again = seal(ESCROW, PASSPHRASE)
    one, other = (content.split(b"\n") for content in (SEALED, again))
    assert json.loads(one[1])["salt"] != json.loads(other[1])["salt"]
    assert json.loads(one[1])["nonce"] != json.loads(other[1])["nonce"]
    assert one[2] != other[2]


def test_escrow_file_and_repr_contain_no_key() -> None:
    shown = SEALED.decode() + repr(ESCROW)
    for secret in (PASSPHRASE, ESCROW.certificate_signing_key, *ESCROW.root_keys.split(",")):
        assert secret not in shown
        assert secret.partition(":")[2] not in shown or ":" not in secret


@pytest.mark.parametrize(
    "wrong",
    ["", "short", PASSPHRASE + " ", PASSPHRASE.upper(), PASSPHRASE[:-1], "another of sixteen characters"],
)
def test_wrong_passphrase_raises_the_unreadable_error(wrong: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        unseal(SEALED, wrong)
    assert (refused.value.reason, refused.value.detail) == ("escrow_unreadable", {})


def test_every_altered_byte_raises_the_unreadable_error(quick: bytes) -> None:
    for position in range(len(quick)):
        for change in (1, 0x20):
            altered = bytearray(quick)
            altered[position] ^= change
            with pytest.raises(InvalidInput) as refused:
                unseal(bytes(altered), PASSPHRASE)
            assert (refused.value.reason, refused.value.detail) == ("escrow_unreadable", {}), position


def test_every_cut_and_every_addition_is_unreadable(quick: bytes) -> None:
    assert unseal(quick, PASSPHRASE) == ESCROW
    for content in [*(quick[:end] for end in range(len(quick))), quick + b"\n", b"\n" + quick, quick + quick]:
        with pytest.raises(InvalidInput, match="escrow_unreadable"):
            unseal(content, PASSPHRASE)


@pytest.mark.parametrize("change", [{"n": 2**30}, {"n": 2**4}, {"r": 1024}, {"p": 64}, {"kdf": "none"}])
def test_derivation_that_the_file_asks_for_is_not_tried(
    change: dict[str, int | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key derivation parameters that need too much memory or too little work are refused before any key is derived
    from the passphrase.
    """
    magic, told, sealed, _ = SEALED.split(b"\n")
    header = json.dumps(json.loads(told) | change).encode()
    monkeypatch.setattr(escrows, "_derive", lambda *_: pytest.fail("derived"))
    with pytest.raises(InvalidInput, match="escrow_unreadable"):
        unseal(b"\n".join((magic, header, sealed, b"")), PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"\xff" * 100, b"{}", b"resguardo escrow 1\n[]\n\n"])
def test_another_file_is_unreadable(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="escrow_unreadable"):
        unseal(content, PASSPHRASE)


def test_short_passphrase_seals_nothing() -> None:
    with pytest.raises(InvalidInput, match="passphrase_short"):
        seal(ESCROW, "fifteen chars..")


def test_passphrase_composed_otherwise_is_the_same() -> None:
    assert unseal(seal(ESCROW, "contrase\u00f1a de la casa"), "contrasen\u0303a de la casa") == ESCROW


def test_file_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "escrow"
    before = os.umask(0)
    try:
        write_new(path, SEALED)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(Conflict, match="escrow_exists"):
        write_new(path, b"another")
    assert path.read_bytes() == SEALED
    assert read(path, PASSPHRASE) == ESCROW


def test_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(Conflict, match="escrow_exists"):
        write_new(tmp_path / "link", SEALED)
    assert not (tmp_path / "target").exists()


def test_half_written_file_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_new(tmp_path / "escrow", SEALED)
    assert not (tmp_path / "escrow").exists()


@pytest.mark.parametrize("name", ["nothing", "directory", "large"])
def test_file_that_is_none_is_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "large").write_bytes(SEALED + bytes(100_000))
    with pytest.raises(AppError, match="escrow_unreadable"):
        read(tmp_path / name, PASSPHRASE)
