"""Tests of canonical JSON and of the signed note that it freezes."""

import hashlib
import json
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Conflict
from app.insights.drafts import Section
from app.insights.model import Flag
from app.notes.canonical import MAX_INTEGER, Json, format_canonical
from app.notes.model import LineAuthor, Resolution, Writer
from app.notes.note_format import (
    NoteKind,
    SignedCitation,
    SignedCoverage,
    SignedFlag,
    SignedLine,
    SignedNote,
    SignedRemoval,
    format_note,
    hash_note,
    parse_note,
)
from app.transcripts.model import Speaker

ID = UUID("018f0000-0000-7000-8000-000000000001")
CITATION = SignedCitation(2, 10_000, 14_000, Speaker.DOCTOR, "Take ibuprofen, 400 mg.")
NOTE = SignedNote(
    kind=NoteKind.NOTE,
    version=1,
    previous_sha256=None,
    recording_id=ID,
    recording_sha256="ab" * 32,
    consultation_id=ID,
    patient_id=ID,
    author_id=ID,
    signed_at=datetime(2026, 12, 1, 9, 30, 0, 250_000, UTC),
    writer=Writer("resguardo", "resguardo-extract"),
    sections={
        Section.S: (SignedLine("Niega alergias; 38,5 \u00b0C \U0001f912", LineAuthor.DOCTOR),),
        Section.O: (),
        Section.A: (),
        Section.P: (
            SignedLine(
                "Ibuprofen 400 mg.",
                LineAuthor.WRITER,
                (CITATION,),
                (SignedFlag(Flag.NUMBER, Resolution.KEPT),),
            ),
        ),
    },
    removed=(SignedRemoval(Section.A, Flag.SIDE),),
    coverage=SignedCoverage("STALE", "READY", 14, 60, False, True, 1, 2, 3, (4, 7)),
)
SAFE_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | SAFE_TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_canonical_json_has_sorted_keys_no_spaces_and_the_escapes_of_rfc_8785() -> None:
    value: Json = {"b": [1, True, None], "a": 'quote " \\ / \n \x0f \x7f é', "A": {}}
    assert format_canonical(value) == (
        '{"A":{},"a":"quote \\" \\\\ / \\n \\u000f \x7f é","b":[1,true,null]}'.encode()
    )


def test_canonical_json_puts_texts_into_normalization_form_c() -> None:
    assert format_canonical("cafe\u0301") == format_canonical("caf\u00e9") == '"caf\u00e9"'.encode()


@given(VALUES)
def test_canonical_json_is_read_by_any_parser_and_has_one_form(value: object) -> None:
    formatted = format_canonical(value)  # type: ignore[arg-type] # Hypothesis does not name the type
    read = json.loads(formatted)
    assert format_canonical(read) == formatted
    assert unicodedata.is_normalized("NFC", formatted.decode())


@pytest.mark.parametrize(
    "value", [1.5, 2**53, -(2**53), "\ud800", {"é": 1}, {1: 2}, {"a": {3}}, b"x", float("nan")]
)
def test_canonical_json_refuses_what_has_no_single_form(value: object) -> None:
    with pytest.raises(ValueError, match=r"^a "):
        format_canonical(value)  # type: ignore[arg-type] # the wrong types are the test


def test_signed_note_is_parsed_from_its_bytes_alone() -> None:
    formatted = format_note(NOTE)
    assert parse_note(formatted) == NOTE
    assert hash_note(formatted) == hashlib.sha256(formatted).hexdigest()
    read = json.loads(formatted)
    assert read["format"] == 1
    assert read["signedAt"] == "2026-12-01T09:30:00.250000Z"
    (line,) = read["sections"]["P"]
    assert line["citations"][0]["quoteSha256"] == hashlib.sha256(CITATION.quote.encode()).hexdigest()
    assert read["removedFlags"] == [{"section": "A", "flag": "SIDE", "resolution": "REMOVED"}]
    assert NOTE.quote_count == 1


def test_addendum_has_only_its_lines_and_the_hash_of_the_version_before() -> None:
    addendum = replace(
        NOTE,
        kind=NoteKind.ADDENDUM,
        version=2,
        previous_sha256=hash_note(format_note(NOTE)),
        writer=None,
        sections=dict.fromkeys(Section, ()),
        removed=(),
        coverage=None,
        addendum=("The patient called: no fever.",),
    )
    assert parse_note(format_note(addendum)) == addendum


def test_each_signed_note_has_a_salt_of_its_own_and_another_hash() -> None:
    first, second = (
        SignedNote(**{name: getattr(NOTE, name) for name in NOTE.__dataclass_fields__ if name != "salt"})
        for _ in range(2)
    )
    assert len(first.salt) == len(second.salt) == 32
    assert hash_note(format_note(first)) != hash_note(format_note(second))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"format":1', b'"format":2'),
        (b'"version":1', b'"version":1.0'),
        (b'"version":1', b'"version":-1'),
        (b'400 mg.","quoteSha256', b'500 mg.","quoteSha256'),
        (b'"kind":"NOTE"', b'"kind": "NOTE"'),
        (b'"kind":"NOTE"', b'"kind":"NOTE","kinds":1'),
        (b'"turn":2', b'"turn":true'),
        (b'"KEPT"', b'"FORGOTTEN"'),
        (b'"isTruncated":false', b'"isTruncated":0'),
        (b"abab", b"ABAB"),
    ],
)
def test_altered_signed_note_is_refused_without_a_word_of_it(before: bytes, after: bytes) -> None:
    formatted = format_note(NOTE)
    assert before in formatted
    with pytest.raises(Conflict) as caught:
        parse_note(formatted.replace(before, after, 1))
    assert caught.value.reason in {"signed_note_malformed", "signed_note_format_unknown"}
    assert "ibuprofen" not in repr(caught.value).lower()


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_signed_note(stored: bytes) -> None:
    with pytest.raises(Conflict):
        parse_note(stored)


def test_repr_of_a_signed_note_has_no_text() -> None:
    assert "ibuprofen" not in repr(NOTE).lower()
    assert "alergias" not in repr(NOTE)
