"""Tests of root keys, data keys and encrypted fields. The tests check the test vectors of RFC 3394, that a wrong
key decrypts nothing, and that no output contains a secret.
"""

import base64
import secrets

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Conflict, InvalidInput
from app.keys.keyring import FIELD_VERSION, DataKey, Field, FieldKey, Keyring, new_key_line

PLACE = Field("transcripts", "7f1c", "words", "7f1c")
keys = st.binary(min_size=32, max_size=32)


def _line(*names: str) -> str:
    return ",".join(new_key_line(name) for name in names)


# RFC 3394, 4.6: key data of 256 bits, wrapped with a key of 256 bits.
KEK = bytes.fromhex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
KEY_DATA = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
WRAPPED = bytes.fromhex("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")


def test_wrapping_is_that_of_rfc_3394() -> None:
    ring = Keyring({"rfc": KEK})
    assert ring._wrap(KEY_DATA) == DataKey(WRAPPED, "rfc")
    assert ring._unwrap(WRAPPED, "rfc") == KEY_DATA


@pytest.mark.parametrize("position", range(len(WRAPPED)))
def test_wrapped_key_with_one_bit_altered_does_not_open(position: int) -> None:
    altered = bytearray(WRAPPED)
    altered[position] ^= 1
    with pytest.raises(Conflict, match="data_key_wrong"):
        Keyring({"rfc": KEK}).unwrap(bytes(altered), "rfc")


@pytest.mark.parametrize("length", [0, 1, 16, 24, 39, 41, 48])
def test_wrapped_key_of_another_length_does_not_open(length: int) -> None:
    with pytest.raises(Conflict, match="data_key_wrong"):
        Keyring({"rfc": KEK}).unwrap(bytes(length), "rfc")


def test_wrapped_shorter_key_does_not_open() -> None:
    """A wrapped 128-bit key (RFC 3394, 4.3) is valid, but it is refused as a data key, because a data key has 256
    bits.
    """
    wrapped = bytes.fromhex("64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7")
    with pytest.raises(Conflict, match="data_key_wrong"):
        Keyring({"rfc": KEK}).unwrap(wrapped, "rfc")


@given(root=keys, other=keys, text=st.binary(max_size=2000))
def test_data_key_opens_with_its_root_key_alone(root: bytes, other: bytes, text: bytes) -> None:
    ring = Keyring({"one": root})
    made = ring.new_data_key()
    blob = ring.unwrap(made.wrapped, "one").encrypt(PLACE, text)
    assert ring.unwrap(made.wrapped, "one").decrypt(PLACE, blob) == text
    if other != root:
        with pytest.raises(Conflict, match="data_key_wrong"):
            Keyring({"one": other}).unwrap(made.wrapped, "one")
    with pytest.raises(Conflict, match="root_key_unknown"):
        ring.unwrap(made.wrapped, "two")


@given(old=keys, new=keys, text=st.binary(max_size=200))
def test_rewrapped_key_reads_what_was_written_before_without_the_old_root_key(
    old: bytes, new: bytes, text: bytes
) -> None:
    before = Keyring({"old": old})
    made = before.new_data_key()
    blob = before.unwrap(made.wrapped, "old").encrypt(PLACE, text)
    anew = Keyring({"new": new, "old": old}).rewrap(made.wrapped, "old")
    assert anew.root_key_id == "new"
    assert Keyring({"new": new}).unwrap(anew.wrapped, anew.root_key_id).decrypt(PLACE, blob) == text


def test_field_is_the_gcm_of_nist_with_our_associated_data() -> None:
    """The library `cryptography` encrypts. Our own code only defines the byte layout and the associated data of an
    encrypted field.
    """
    blob = FieldKey(KEY_DATA).encrypt(PLACE, b"words")
    assert blob[0] == FIELD_VERSION == 1
    assert len(blob) == 1 + 12 + len(b"words") + 16
    assert AESGCM(KEY_DATA).decrypt(blob[1:13], blob[13:], b"transcripts|7f1c|words|7f1c|1") == b"words"


def test_field_of_version_1_stays_readable() -> None:
    blob = bytes.fromhex("01000102030405060708090a0b3bb284ac1ca4200ea6524a46217c95d69f7d915083")
    assert FieldKey(KEY_DATA).decrypt(PLACE, blob) == b"words"


@given(text=st.binary(max_size=100), data=st.data())
def test_field_with_one_byte_altered_cannot_be_read(text: bytes, data: st.DataObject) -> None:
    key = FieldKey(KEY_DATA)
    blob = bytearray(key.encrypt(PLACE, text))
    position = data.draw(st.integers(0, len(blob) - 1))
    blob[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Conflict, match="field_unreadable"):
        key.decrypt(PLACE, bytes(blob))


@pytest.mark.parametrize(
    "elsewhere",
    [
        Field("insights", "7f1c", "words", "7f1c"),
        Field("transcripts", "7f1d", "words", "7f1c"),
        Field("transcripts", "7f1c", "draft", "7f1c"),
        Field("transcripts", "7f1c", "words", "7f1d"),
    ],
)
def test_field_moved_elsewhere_cannot_be_read(elsewhere: Field) -> None:
    key = FieldKey(KEY_DATA)
    with pytest.raises(Conflict, match="field_unreadable"):
        key.decrypt(elsewhere, key.encrypt(PLACE, b"words"))


@pytest.mark.parametrize("length", range(30))
def test_field_cut_short_cannot_be_read(length: int) -> None:
    key = FieldKey(KEY_DATA)
    with pytest.raises(Conflict, match="field_unreadable"):
        key.decrypt(PLACE, key.encrypt(PLACE, b"words")[:length])


@pytest.mark.parametrize("part", ["", "a|b", "a b", "x" * 129])
def test_place_that_could_be_another_is_refused(part: str) -> None:
    for place in (("t", "r", "c", part), ("t", "r", part, "k"), ("t", part, "c", "k"), (part, "r", "c", "k")):
        with pytest.raises(ValueError, match="field's place"):
            Field(*place)


def test_same_text_twice_is_not_the_same_blob() -> None:
    key = FieldKey(KEY_DATA)
    assert len({key.encrypt(PLACE, b"words") for _ in range(100)}) == 100


def test_first_key_is_the_current_one() -> None:
    ring = Keyring.parse(_line("2027-01", "2026-11"))
    assert ring.ids == ("2027-01", "2026-11")
    assert ring.new_data_key().root_key_id == ring.current_id == "2027-01"


def test_spaces_between_keys_do_not_matter() -> None:
    assert Keyring.parse(" " + _line("b", "a").replace(",", " , ")).ids == ("b", "a")


def _of(key: bytes) -> str:
    return base64.b64encode(key).decode()


@pytest.mark.parametrize(
    ("text", "reason", "number"),
    [
        ("", "root_keys_malformed", 1),
        ("a", "root_keys_malformed", 1),
        (":" + _of(KEK), "root_keys_malformed", 1),
        ("A:" + _of(KEK), "root_keys_malformed", 1),
        ("a" * 33 + ":" + _of(KEK), "root_keys_malformed", 1),
        ("a:" + _of(KEK[:31]), "root_keys_malformed", 1),
        ("a:" + _of(KEK + b"x"), "root_keys_malformed", 1),
        ("a:" + _of(KEK)[:-1], "root_keys_malformed", 1),
        ("a:!" + _of(KEK)[1:], "root_keys_malformed", 1),
        ("a:é" + _of(KEK)[1:], "root_keys_malformed", 1),
        (f"a:{_of(KEK)},", "root_keys_malformed", 2),
        (f"a:{_of(KEK)},a:{_of(KEY_DATA)}", "root_key_twice", 2),
        (f"a:{_of(KEK)},b:{_of(KEK)}", "root_key_twice", 2),
        ("a:" + _of(bytes(32)), "root_key_weak", 1),
        ("a:" + _of(b"\1\2\3\4" * 8), "root_key_weak", 1),
    ],
)
def test_bad_keyring_is_refused_by_its_number_and_without_its_text(
    text: str, reason: str, number: int
) -> None:
    with pytest.raises(InvalidInput) as refused:
        Keyring.parse(text)
    assert refused.value.reason == reason
    assert refused.value.detail == {"number": number}
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", ["", "A", "a b", "a:b", "a,b", "é", "a" * 33])
def test_new_key_with_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="root_key_id"):
        new_key_line(name)


def test_check_values_tell_keys_apart_and_reveal_nothing() -> None:
    ring, again = Keyring({"a": KEK, "b": KEY_DATA}), Keyring({"a": KEK})
    values = ring.check_values()
    assert {name: len(value) for name, value in values.items()} == {"a": 16, "b": 16}
    assert again.check_values()["a"] == values["a"] != Keyring({"b": KEK}).check_values()["b"]
    assert Keyring({"a": KEY_DATA}).check_values()["a"] != values["a"]
    assert values["a"] not in KEK


def test_repr_of_a_keyring_contains_no_key() -> None:
    root, text = secrets.token_bytes(32), b"words of a patient"
    ring = Keyring({"a": root})
    made = ring.new_data_key()
    key = ring.unwrap(made.wrapped, "a")
    shown = f"{ring!r} {ring} {made!r} {key!r} {key}"
    with pytest.raises(Conflict) as refused:
        ring.unwrap(bytes(40), "a")
    shown += f"{refused.value!r} {refused.value.detail} {refused.value.__cause__!r}"
    for secret in (root, made.wrapped, ring._unwrap(made.wrapped, "a"), text):
        for form in (secret.hex(), _of(secret), repr(secret)):
            assert form not in shown
