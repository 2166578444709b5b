"""The PDF of a certificate contains all its facts in two languages, always has the same bytes, and is refused if it
was altered.
"""

import hashlib
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.certificates import pdf
from app.certificates.model import Certificate, Ground
from app.certificates.pdf import MAX_PDF_BYTES, RENDERER, attached_to, check_pdf, render_pdf
from app.errors import InvalidInput
from app.texts import LANGUAGES, certificate_words
from tests.unit.certificates import FULL, LARGEST, NOON, OTHER_SIGNER, SEED, SIGNER, certificates

SIGNED = SIGNER.sign(FULL)
DOCUMENT = render_pdf(SIGNED)
ATTACHED = slice(DOCUMENT.index(SIGNED.file), DOCUMENT.index(SIGNED.file) + len(SIGNED.file))
RENDER_ELSEWHERE = """
import hashlib, locale, sys
locale.setlocale(locale.LC_ALL, "")
from app.certificates.pdf import render_pdf
from tests.unit.certificates import FULL, SIGNER
print(hashlib.sha256(render_pdf(SIGNER.sign(FULL))).hexdigest())
"""


def _refusal(document: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        check_pdf(document, SIGNER.public_key)
    return refused.value


def _text(document: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document)).pages)


def _words(text: str) -> str:
    return "".join(text.split())


def test_document_checks_and_carries_the_signed_file() -> None:
    assert check_pdf(DOCUMENT, SIGNER.public_key) == FULL
    assert attached_to(DOCUMENT) == SIGNED.file


@settings(max_examples=25)
@given(certificates())
def test_document_of_every_certificate_checks(certificate: Certificate) -> None:
    assert check_pdf(render_pdf(SIGNER.sign(certificate)), SIGNER.public_key) == certificate


def test_document_shows_every_value_in_both_languages() -> None:
    full = replace(
        FULL, ground=Ground.RESTORE, reason="restored_backup", requested_at=NOON, number=2, repeats="f6" * 32
    )
    signed = SIGNER.sign(full)
    shown = _words(_text(render_pdf(signed)))
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
        *("resguardo.transcripts", signed.signature.key_id, signed.signature.value, signed.sha256),
    ):
        assert shown.count(str(value)) >= 2, value
    for language in LANGUAGES:
        words = certificate_words(language)
        used = {text for name, text in words.items() if not name.startswith("ground_") and name != "none"}
        assert [text for text in used | {words["ground_RESTORE"]} if _words(text) not in shown] == []


def test_document_says_where_there_was_none() -> None:
    bare = replace(FULL, ground=Ground.MISSING, policy=None, objects=(), keys=(), words_cleared=())
    shown = _text(render_pdf(SIGNER.sign(bare)))
    assert all(shown.split().count(certificate_words(language)["none"]) == 3 for language in LANGUAGES)


def test_long_certificate_goes_on_over_pages_that_say_whose_they_are() -> None:
    long = replace(FULL, objects=FULL.objects * 20)
    document = render_pdf(SIGNER.sign(long))
    pages = pypdf.PdfReader(io.BytesIO(document)).pages
    assert len(pages) > 4
    feet = [page.extract_text().splitlines()[-1] for page in pages]
    assert all(str(FULL.recording_id) in foot for foot in feet)
    assert feet[0].endswith("Page 1")
    assert len(set(feet)) == len(feet)
    assert _words(_text(document)).count("d4" * 32) == 40


def test_largest_certificate_makes_a_document_that_is_not_too_large() -> None:
    signed = SIGNER.sign(LARGEST)
    document = render_pdf(signed)
    assert len(document) < MAX_PDF_BYTES
    assert attached_to(document) == signed.file


def test_documents_made_at_the_same_time_are_the_same_bytes() -> None:
    several = [SIGNER.sign(replace(FULL, objects=FULL.objects * count)) for count in range(6)]
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(render_pdf, several * 4))
    assert made == [render_pdf(signed) for signed in several] * 4


@pytest.mark.parametrize(
    "environment",
    [
        {"TZ": "Pacific/Auckland", "SOURCE_DATE_EPOCH": "1"},
        {
            "PYTHONHASHSEED": "1",
            "RL_invariant": "0",
            "RL_pageCompression": "1",
            "RL_canvas_basefontname": "Courier",
        },
        {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "PYTHONOPTIMIZE": "1"},
    ],
)
def test_document_is_the_same_bytes_on_a_machine_set_up_otherwise(environment: dict[str, str]) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", RENDER_ELSEWHERE],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
        text=True,
    )
    assert printed.stdout.strip() == hashlib.sha256(DOCUMENT).hexdigest()


def test_nothing_in_the_document_depends_on_a_compression() -> None:
    assert b"/Filter" not in DOCUMENT


def test_shown_text_altered_in_one_byte_is_refused_as_such() -> None:
    place = DOCUMENT.index(b"2026-12-26", 0, ATTACHED.start)
    altered = bytearray(DOCUMENT)
    altered[place + 3] ^= 1
    assert bytes(altered[ATTACHED]) == SIGNED.file
    refused = _refusal(bytes(altered))
    assert (refused.reason, refused.detail) == (
        "certificate_pdf_differs",
        {"made_by": RENDERER, "checked_by": RENDERER},
    )


@pytest.mark.parametrize("change", [0x01, 0xFF])
def test_document_altered_in_any_byte_is_refused(change: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alters every 13th byte. The test renders the expected document once."""
    monkeypatch.setattr(pdf, "render_pdf", {SIGNED: DOCUMENT}.__getitem__)
    for place in range(change % 13, len(DOCUMENT), 13):
        altered = bytearray(DOCUMENT)
        altered[place] ^= change
        assert _refusal(bytes(altered)).reason.startswith("certificate_"), place


def test_attachment_altered_is_refused_as_the_file_would_be() -> None:
    altered = bytearray(DOCUMENT)
    altered[ATTACHED.start + SIGNED.file.index(b'"number":1') + 9] = ord("2")
    assert _refusal(bytes(altered)).reason == "certificate_signature"


def test_document_of_another_key_is_refused() -> None:
    assert _refusal(render_pdf(OTHER_SIGNER.sign(FULL))).reason == "certificate_other_key"


def test_pages_of_one_certificate_around_another_are_refused() -> None:
    other = SIGNER.sign(replace(FULL, number=2))
    mixed = DOCUMENT.replace(SIGNED.file, other.file)
    assert attached_to(mixed) == other.file
    assert _refusal(mixed).reason == "certificate_pdf_differs"


def test_document_of_another_renderer_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "RENDERER", "resguardo layout-0 pypdf-1")
    older = render_pdf(SIGNED)
    monkeypatch.undo()
    assert _refusal(older).detail == {"made_by": "resguardo layout-0 pypdf-1", "checked_by": RENDERER}
    monkeypatch.setattr(pdf, "RENDERER", "<script>\n[red]")
    hostile = render_pdf(SIGNED)
    monkeypatch.undo()
    assert _refusal(hostile).detail["made_by"] == "unknown"


def _document(attachments: list[tuple[str, bytes]], password: str | None = None) -> bytes:
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    for name, content in attachments:
        writer.add_attachment(name, content)
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


@pytest.mark.parametrize(
    "document",
    [
        b"%PDF-",
        b"%PDF-1.4\n%%EOF",
        DOCUMENT[: len(DOCUMENT) // 2],
        DOCUMENT[:-1][:-40],
        _document([]),
        _document([("other.json", SIGNED.file)]),
        _document([("certificate.json", SIGNED.file), ("certificate.json", SIGNED.file)]),
        _document([("certificate.json", SIGNED.file)], password="word"),
        _document([("certificate.json", b"")]),
        b"%PDF-1.4\n" + b"1 0 obj<</Length 1 0 R>>" * 5000 + b"\ntrailer<</Root 1 0 R>>\nstartxref\n9\n%%EOF",
        b"%PDF-1.4\n" + b"<<" * 50_000 + b"\nstartxref\n9\n%%EOF",
        b"%PDF-1.4\nxref\n0 99999999\ntrailer<</Root 1 0 R/Prev 9>>\nstartxref\n9\n%%EOF",
    ],
)
def test_what_holds_no_certificate_is_malformed(document: bytes) -> None:
    assert _refusal(document).reason == "certificate_malformed"


def test_document_that_is_too_large_is_not_opened() -> None:
    refused = _refusal(DOCUMENT + b"\0" * MAX_PDF_BYTES)
    assert (refused.reason, refused.detail) == ("certificate_too_large", {"max_bytes": MAX_PDF_BYTES})


@settings(max_examples=150)
@given(st.binary(max_size=300), st.integers(0, len(DOCUMENT)), st.integers(0, 300))
def test_document_with_anything_put_into_it_is_refused(junk: bytes, place: int, left_out: int) -> None:
    altered = DOCUMENT[:place] + junk + DOCUMENT[place + left_out :]
    if altered != DOCUMENT:
        assert _refusal(altered).reason.startswith("certificate_")


def test_seed_is_in_no_document() -> None:
    assert SEED.encode() not in DOCUMENT
