"""Tests of idempotency keys: which keys are accepted, and what the database stores of a key and an input."""

from uuid import UUID

import pytest

from app.errors import InvalidInput
from app.idempotency.service import RepeatableCall

SOMEBODY = UUID(int=1)


def _stored(key: str, *given: str | int | UUID | None) -> tuple[object, object]:
    parameters = RepeatableCall("inviteGuest", key, *given)._parameters
    return parameters["key_sha256"], parameters["input_mac"]


@pytest.mark.parametrize("key", ["", "x" * 129, "a\nb", "\x00", "\u200b", "\ud83d", "a\u2028b"])
def test_key_that_is_too_long_or_not_printable_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        RepeatableCall("inviteGuest", key)
    assert (refused.value.reason, refused.value.detail) == ("bad_idempotency_key", {"maximum": 128})


@pytest.mark.parametrize("key", ["x", "x" * 128, "\U0001f9e0" * 128, "visit 7, guest 1"])
def test_printable_key_of_at_most_128_characters_is_accepted(key: str) -> None:
    RepeatableCall("inviteGuest", key, SOMEBODY)


def test_stored_hash_of_the_input_depends_on_the_whole_input_and_on_the_key() -> None:
    inputs: list[tuple[str | int | None, ...]] = [
        (),
        (None,),
        ("",),
        ("a", "b"),
        ("ab",),
        ("a", "b", None),
        ('a", "b',),
        (1,),
        ("1",),
        (True,),
    ]
    assert len({_stored("key", *given) for given in inputs}) == len(inputs)
    assert _stored("key", SOMEBODY, "a") == _stored("key", SOMEBODY, "a")
    assert _stored("key", "a")[1] != _stored("other", "a")[1]


def test_nothing_that_is_stored_contains_the_key_or_the_input() -> None:
    key_sha256, input_mac = _stored("maria-lopez", "Take 50 mg.")
    assert isinstance(key_sha256, bytes)
    assert isinstance(input_mac, bytes)
    assert [len(key_sha256), len(input_mac)] == [32, 32]
    assert b"maria" not in key_sha256 + input_mac
