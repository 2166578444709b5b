"""Tests that the PDF of a certificate contains all facts of the certificate in two languages, and the signed file
as an attachment. Its pages prove nothing.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast
from uuid import UUID

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from app.certificates.model import Certificate, Ground
from app.certificates.pdf import MAX_PDF_BYTES, read_attachment, render_pdf
from app.certificates.signing import MAX_FILE_BYTES, check
from app.errors import InvalidInput
from app.texts import LANGUAGES, certificate_words
from tests.unit.certificates import FULL, LARGEST, NOON, OTHER_SIGNER, SEED, SIGNER, certificates

SIGNED = SIGNER.sign(FULL)
DOCUMENT = render_pdf(SIGNED)
REFUSALS = {
    "certificate_malformed",
    "certificate_other_key",
    "certificate_pdf_attachments",
    "certificate_pdf_malformed",
    "certificate_signature",
}


def _refusal(document: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        check(read_attachment(document), SIGNER.public_key)
    return refused.value


def _outcome(document: bytes) -> str:
    try:
        is_same = check(read_attachment(document), SIGNER.public_key) == FULL
    except InvalidInput as refused:
        return refused.reason
    return "genuine" if is_same else "other facts"


def _text(document: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document)).pages)


def _without_spaces(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=25)
@given(certificates())
def test_pdf_carries_the_signed_file(certificate: Certificate) -> None:
    signed = SIGNER.sign(certificate)
    assert read_attachment(render_pdf(signed)) == signed.file


def test_pages_show_every_value_in_both_languages() -> None:
    full = replace(
        FULL, ground=Ground.RESTORE, reason="restored_backup", requested_at=NOON, number=2, repeats="f6" * 32
    )
    signed = SIGNER.sign(full)
    shown = _without_spaces(_text(render_pdf(signed)))
    for value in (
        *(full.recording_id, full.consultation_id, full.deployment, full.reason, full.repeats),
        *(
            "2026-11-21T12:00:00.000120Z",
            "2026-11-20T12:00:00.000120Z",
            "2026-11-21T12:00:02.000120Z",
            "2026-12-26",
        ),
        *("a1" * 32, "b2" * 32, "c3" * 32, "d4" * 32, "e5" * 32),
        *("video.mp4", "speakers.ogg", "73400320", "9b2cf535f27731c974343645a3985328-5", "root-2026"),
        *("5a6b7c8d-1111-4222-8333-944455556666", "f7" * 32, "f8" * 32, "21"),
        *("resguardo.transcripts", signed.signature.key_id, signed.signature.value, signed.sha256),
    ):
        assert shown.count(str(value)) >= 2, value
    for language in LANGUAGES:
        words = certificate_words(language)
        unused = {"none", "lead_note"}
        used = {text for name, text in words.items() if not name.startswith("ground_") and name not in unused}
        assert [text for text in used | {words["ground_RESTORE"]} if _without_spaces(text) not in shown] == []


def test_pages_say_none_for_an_empty_list() -> None:
    bare = replace(
        FULL,
        ground=Ground.MISSING,
        policy=None,
        objects=(),
        keys=(),
        text_rows_cleared=(),
        surviving_notes=(),
    )
    shown = _text(render_pdf(SIGNER.sign(bare)))
    assert all(shown.split().count(certificate_words(language)["none"]) == 4 for language in LANGUAGES)


def test_pages_of_a_note_say_that_the_note_was_destroyed() -> None:
    note = replace(FULL, objects=(), surviving_notes=(), signed_note_id=UUID(int=5))
    shown = _without_spaces(_text(render_pdf(SIGNER.sign(note))))
    for language in LANGUAGES:
        words = certificate_words(language)
        assert _without_spaces(words["lead_note"]) in shown
        assert _without_spaces(words["lead"]) not in shown
    assert shown.count(str(UUID(int=5))) == 2


def test_every_page_of_a_long_certificate_names_the_recording() -> None:
    long = replace(FULL, objects=FULL.objects * 20)
    document = render_pdf(SIGNER.sign(long))
    pages = pypdf.PdfReader(io.BytesIO(document)).pages
    assert len(pages) > 4
    feet = [page.extract_text().splitlines()[-1] for page in pages]
    assert all(str(FULL.recording_id) in foot for foot in feet)
    assert feet[0].endswith("Page 1")
    assert len(set(feet)) == len(feet)
    assert _without_spaces(_text(document)).count("d4" * 32) == 40


def test_pdf_of_the_largest_certificate_is_below_the_size_limit() -> None:
    signed = SIGNER.sign(LARGEST)
    document = render_pdf(signed)
    assert len(document) < MAX_PDF_BYTES
    assert read_attachment(document) == signed.file


def test_pdfs_rendered_at_the_same_time_carry_their_own_file() -> None:
    several = [SIGNER.sign(replace(FULL, objects=FULL.objects * count)) for count in range(6)] * 4
    with ThreadPoolExecutor(6) as threads:
        rendered = list(threads.map(render_pdf, several))
    assert [read_attachment(document) for document in rendered] == [signed.file for signed in several]


def test_attachment_is_not_compressed() -> None:
    assert b"/Filter" not in DOCUMENT
    assert SIGNED.file in DOCUMENT


def test_signature_is_valid_whatever_the_pages_show() -> None:
    """Only the attached file is signed, so a changed page of the PDF does not change the signed facts."""
    place = DOCUMENT.index(b"2026-12-26", 0, DOCUMENT.index(SIGNED.file))
    altered = DOCUMENT[:place] + b"2030-01-01" + DOCUMENT[place + 10 :]
    assert "2030-01-01" in _text(altered)
    assert check(read_attachment(altered), SIGNER.public_key) == FULL


@pytest.mark.parametrize("change", [0x01, 0xFF])
def test_pdf_altered_in_any_byte_is_refused_or_has_the_same_facts(change: int) -> None:
    """Alters every 13th byte."""
    for place in range(change % 13, len(DOCUMENT), 13):
        altered = bytearray(DOCUMENT)
        altered[place] ^= change
        assert _outcome(bytes(altered)) in {"genuine", *REFUSALS}, place


def test_altered_attachment_is_refused_as_the_file_would_be() -> None:
    altered = bytearray(DOCUMENT)
    altered[DOCUMENT.index(SIGNED.file) + SIGNED.file.index(b'"number":1') + 9] = ord("2")
    assert _refusal(bytes(altered)).reason == "certificate_signature"


def test_pdf_signed_with_another_key_is_refused() -> None:
    assert _refusal(render_pdf(OTHER_SIGNER.sign(FULL))).reason == "certificate_other_key"


def _pdf(
    attachments: list[tuple[str, bytes]], *, password: str | None = None, compress: bool = False
) -> bytes:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    for name, content in attachments:
        writer.add_attachment(name, content)
    if compress:
        for attached in writer.attachment_list:
            places = cast("DictionaryObject", attached.pdf_object["/EF"])
            places[NameObject("/F")] = cast("StreamObject", places["/F"]).flate_encode()
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


OWN = ("certificate.json", SIGNED.file)


@pytest.mark.parametrize(
    ("attachments", "found"),
    [
        ([], 0),
        ([("other.json", SIGNED.file)], 1),
        ([("Certificate.json", SIGNED.file)], 1),
        ([OWN, OWN], 2),
        ([OWN, ("certificate.json", b"{}")], 2),
        ([("a.json", b"{}"), OWN], 2),
        ([OWN, ("readme.txt", b"")], 2),
        ([OWN] + [(f"{number}.txt", b"") for number in range(500)], 501),
    ],
)
def test_pdf_without_exactly_its_one_attachment_is_refused(
    attachments: list[tuple[str, bytes]], found: int
) -> None:
    refused = _refusal(_pdf(attachments))
    assert (refused.reason, refused.detail) == ("certificate_pdf_attachments", {"found": found})


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"%PDF-",
        b"%PDF-1.4\n%%EOF",
        b"%PDF-1.7\n" + SIGNED.file,
        DOCUMENT[: len(DOCUMENT) // 2],
        DOCUMENT[:-1][:-40],
        _pdf([OWN], password="word"),
        _pdf([OWN], compress=True),
        DOCUMENT.replace(b"/EF", b"/FE"),
        b"%PDF-1.4\n" + b"1 0 obj<</Length 1 0 R>>" * 5000 + b"\ntrailer<</Root 1 0 R>>\nstartxref\n9\n%%EOF",
        b"%PDF-1.4\n" + b"<<" * 50_000 + b"\nstartxref\n9\n%%EOF",
        b"%PDF-1.4\nxref\n0 99999999\ntrailer<</Root 1 0 R/Prev 9>>\nstartxref\n9\n%%EOF",
    ],
)
def test_pdf_that_cannot_be_read_is_malformed(document: bytes) -> None:
    assert _refusal(document).reason == "certificate_pdf_malformed"


@pytest.mark.parametrize("content", [b"", b"{}", b"\0", b"%PDF-1.4", DOCUMENT])
def test_pdf_that_carries_no_certificate_is_malformed(content: bytes) -> None:
    assert _refusal(_pdf([("certificate.json", content)])).reason == "certificate_malformed"


def test_too_large_pdf_is_not_opened() -> None:
    refused = _refusal(DOCUMENT + b"\0" * MAX_PDF_BYTES)
    assert (refused.reason, refused.detail) == ("certificate_too_large", {"max_bytes": MAX_PDF_BYTES})


def test_too_large_attachment_is_refused() -> None:
    refused = _refusal(_pdf([("certificate.json", b" " * (MAX_FILE_BYTES + 1))]))
    assert (refused.reason, refused.detail) == ("certificate_too_large", {"max_bytes": MAX_FILE_BYTES})


@settings(max_examples=150)
@given(st.binary(max_size=300), st.integers(0, len(DOCUMENT)), st.integers(0, 300))
def test_pdf_with_inserted_bytes_is_refused_or_has_the_same_facts(
    junk: bytes, place: int, left_out: int
) -> None:
    assert _outcome(DOCUMENT[:place] + junk + DOCUMENT[place + left_out :]) in {"genuine", *REFUSALS}


def test_pdf_does_not_contain_the_seed() -> None:
    assert SEED.encode() not in DOCUMENT
