"""Builds the lines of a certificate's pages in one language, from the labels in `app/texts` and the values of the
certificate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from app.certificates.model import (
    Certificate,
    DestroyedKey,
    DestroyedObject,
    SurvivingNote,
    format_fact,
    format_moment,
)
from app.certificates.signing import SignedCertificate
from app.texts import Language, certificate_words


class Style(Enum):
    """The style of a line on the pages of a certificate."""

    TITLE = "title"
    TEXT = "text"
    HEADING = "heading"
    ENTRY = "entry"
    GAP = "gap"


@dataclass(frozen=True)
class Line:
    """One line on the pages of a certificate, before the line is wrapped. A line with the style ENTRY has a label
    (`text`) and a value.
    """

    style: Style
    text: str = ""
    value: str = ""


def build_lines(signed: SignedCertificate, language: Language) -> Iterator[Line]:
    """Yield all lines of the certificate's pages, including the lines about the signature."""
    words = certificate_words(language)
    certificate = signed.certificate
    yield Line(Style.TITLE, words["title"])
    yield Line(Style.TEXT, words["lead" if certificate.signed_note_id is None else "lead_note"])
    yield Line(Style.GAP)
    yield from _entries(words, _general(certificate, words))
    yield Line(Style.HEADING, words["objects"])
    for one in certificate.objects:
        yield from _entries(words, _of_object(one))
    yield from _none(words, certificate.objects)
    yield Line(Style.HEADING, words["keys"])
    for key in certificate.keys:
        yield from _entries(words, _of_key(key))
    yield from _none(words, certificate.keys)
    yield Line(Style.HEADING, words["text_rows_cleared"])
    yield from (Line(Style.ENTRY, one.table, str(one.rows)) for one in certificate.text_rows_cleared)
    yield from _none(words, certificate.text_rows_cleared)
    yield Line(Style.HEADING, words["surviving_notes"])
    for note in certificate.surviving_notes:
        yield from _entries(words, _of_note(note))
    yield from _none(words, certificate.surviving_notes)
    yield Line(Style.GAP)
    yield Line(Style.HEADING, words["signature"])
    yield from _entries(words, _of_signature(signed))
    yield Line(Style.TEXT, words["attached"])


def _general(certificate: Certificate, words: dict[str, str]) -> dict[str, object]:
    policy = certificate.policy
    return {
        **({} if certificate.signed_note_id is None else {"signed_note": certificate.signed_note_id}),
        "recording": certificate.recording_id,
        "consultation": certificate.consultation_id,
        "deployment": certificate.deployment,
        "ground": f"{certificate.ground} ({words[f'ground_{certificate.ground}']})",
        "reason": certificate.reason,
        "requested_at": certificate.requested_at,
        "policy": policy and policy.name,
        "policy_sha256": policy and policy.sha256,
        "term_days": policy and policy.term_days,
        "due_at": policy and policy.due_at,
        "holds_checked_at": certificate.hold_check.checked_at,
        "holds_found": len(certificate.hold_check.holds),
        "destroyed_at": certificate.destroyed_at,
        "backups_until": certificate.backups_until,
        "number": certificate.number,
        "repeats": certificate.repeats,
        "issued_at": certificate.issued_at,
    }


def _of_object(one: DestroyedObject) -> dict[str, object]:
    return {
        "kind": one.kind,
        "key_sha256": one.key_sha256,
        "size_bytes": one.size_bytes,
        "sha256": one.sha256,
        "etag": one.etag,
        "deleted_at": one.deleted_at,
        "head": f"{one.head_status}, {format_moment(one.head_at)}",
    }


def _of_key(key: DestroyedKey) -> dict[str, object]:
    return {
        "kind": key.kind,
        "wrapped_key_sha256": key.wrapped_key_sha256,
        "root_key_id": key.root_key_id,
        "destroyed_at": key.destroyed_at,
    }


def _of_note(note: SurvivingNote) -> dict[str, object]:
    return {
        "signed_note": note.signed_note_id,
        "versions_sha256": " ".join(note.versions_sha256),
        "quotes": note.quotes,
        "due_at": note.due_at,
    }


def _of_signature(signed: SignedCertificate) -> dict[str, object]:
    return {
        "algorithm": signed.signature.algorithm,
        "key_id": signed.signature.key_id,
        "value": signed.signature.value,
        "file_sha256": signed.sha256,
    }


def _entries(words: dict[str, str], values: dict[str, object]) -> Iterator[Line]:
    for name, value in values.items():
        yield Line(Style.ENTRY, words[name], words["absent"] if value is None else format_fact(value))
    yield Line(Style.GAP)


def _none(words: dict[str, str], found: tuple[object, ...]) -> Iterator[Line]:
    if not found:
        yield Line(Style.TEXT, words["none"])
