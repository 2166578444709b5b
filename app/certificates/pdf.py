"""A certificate for people: English and Spanish pages, with the signed file attached, and the check of such a document.

The same certificate always becomes the same bytes. So a document is genuine when its attachment is, and when it is what
that attachment becomes here, to the last byte. Another release of the libraries may write it otherwise: a document says
what made it, and the refusal says so.
"""

import hashlib
import io
import json
import re
import struct
import zlib
from typing import cast

import pypdf
import reportlab
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pypdf.errors import DependencyError, DeprecationError, PyPdfError
from pypdf.generic import DictionaryObject, EmbeddedFile

from app.certificates.layout import Line, lines
from app.certificates.model import Certificate
from app.certificates.pdf_canvas import draw
from app.certificates.signing import SignedCertificate, check, read_signed
from app.errors import InvalidInput
from app.texts import LANGUAGES, Language, certificate_words

ATTACHMENT = "certificate.json"
MAGIC = b"%PDF-"
MAX_PDF_BYTES = 5 * 1024 * 1024
_LAYOUT = 1
"""The next number when what `pages` and `drawing` make of a certificate changes."""
_UNREADABLE = (
    PyPdfError,
    DependencyError,
    DeprecationError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pypdf raises over a file that is none, or was made to hurt it (its 7.1.0, tried, checked 2026-11-21)."""


def _texts_digest() -> str:
    texts = json.dumps([certificate_words(language) for language in LANGUAGES])
    return hashlib.sha256(texts.encode()).hexdigest()[:8]


RENDERER = (
    f"resguardo layout-{_LAYOUT} texts-{_texts_digest()} reportlab-{reportlab.__version__} "
    f"pypdf-{pypdf.__version__}"
)
"""What makes a document; two that differ here may write the same certificate in other bytes."""


def render_pdf(signed: SignedCertificate) -> bytes:
    """The document of a signed certificate; it verifies nothing."""
    drawn = draw([_chapter(signed, language) for language in LANGUAGES])
    writer = pypdf.PdfWriter()
    for page in pypdf.PdfReader(io.BytesIO(drawn)).pages:
        writer.add_page(page)
    writer.metadata = {"/Title": certificate_words("en")["title"], "/Producer": RENDERER}
    writer.add_attachment(ATTACHMENT, signed.file)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def check_pdf(document: bytes, key: Ed25519PublicKey) -> Certificate:
    """The certificate that is attached to a document, if the holder of this key signed it and every page is its own.

    Raises InvalidInput: what `check` raises of the attachment, certificate_malformed where there is none that can be
    taken out, certificate_too_large, and certificate_pdf_differs (`made_by`, `checked_by`) where the attachment is
    genuine and the document another than it becomes here.
    """
    attached, made_by = _attachment(document)
    certificate = check(attached, key)
    if render_pdf(read_signed(attached)) != document:
        raise InvalidInput("certificate_pdf_differs", made_by=made_by, checked_by=RENDERER)
    return certificate


def attached_to(document: bytes) -> bytes:
    """The signed file in a document, unchecked. Raises InvalidInput (certificate_malformed, certificate_too_large)."""
    return _attachment(document)[0]


def _chapter(signed: SignedCertificate, language: Language) -> tuple[str, list[Line]]:
    words = certificate_words(language)
    return f"{signed.certificate.recording_id} - {words['page']}", list(lines(signed, language))


def _plain_content(attached: EmbeddedFile) -> bytes:
    """What is attached. Raises ValueError where it is encoded: ours never are, and to decode can take minutes."""
    places = cast("DictionaryObject", attached.pdf_object["/EF"])
    streams = [
        cast("DictionaryObject", places[name].get_object()) for name in ("/UF", "/F") if name in places
    ]
    if any("/Filter" in stream for stream in streams):
        raise ValueError("encoded")
    return attached.content


def _attachment(document: bytes) -> tuple[bytes, str]:
    """The signed file, and by what the document says it was made."""
    if len(document) > MAX_PDF_BYTES:
        raise InvalidInput("certificate_too_large", max_bytes=MAX_PDF_BYTES)
    try:
        reader = pypdf.PdfReader(io.BytesIO(document), strict=True)
        (attached,) = (one for one in reader.attachment_list if one.name == ATTACHMENT)
        content = _plain_content(attached)
        made_by = (reader.metadata and reader.metadata.producer) or ""
    except _UNREADABLE:
        raise InvalidInput("certificate_malformed") from None
    known = re.fullmatch(r"[0-9A-Za-z .-]{1,120}", made_by)
    return content, made_by if known else "unknown"
