"""The PDF of a certificate: English and Spanish pages for people, with the signed file attached.

The attached signed file proves the destruction, and the pages do not. The pages are only for people, and no program
compares them with the signed file.
"""

import io
import struct
import zlib
from typing import Final, cast

import pypdf
from pypdf.errors import DependencyError, DeprecationError, PyPdfError
from pypdf.generic import DictionaryObject, EmbeddedFile

from app.certificates.layout import Line, build_lines
from app.certificates.pdf_canvas import draw
from app.certificates.signing import SignedCertificate
from app.errors import InvalidInput
from app.texts import LANGUAGES, Language, certificate_words

ATTACHMENT: Final = "certificate.json"
MAGIC: Final = b"%PDF-"
MAX_PDF_BYTES: Final = 5 * 1024 * 1024
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
"""The exceptions of pypdf for a malformed or hostile PDF (pypdf 7.1.0, tried, checked 2026-11-21)."""


def render_pdf(signed: SignedCertificate) -> bytes:
    """Return the PDF of a signed certificate. The caller must check the certificate's signature before the call."""
    drawn = draw([_chapter(signed, language) for language in LANGUAGES])
    writer = pypdf.PdfWriter()
    for page in pypdf.PdfReader(io.BytesIO(drawn)).pages:
        writer.add_page(page)
    writer.metadata = {"/Title": certificate_words("en")["title"], "/Producer": "resguardo"}
    writer.add_attachment(ATTACHMENT, signed.file)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def read_attachment(document: bytes) -> bytes:
    """Return the signed certificate that is attached to a PDF, without checking its signature. Raises InvalidInput
    (certificate_too_large). Raises InvalidInput (certificate_pdf_malformed) if pypdf cannot read the PDF, or if the
    attachment is encoded. Raises InvalidInput (certificate_pdf_attachments) unless `certificate.json` is the only
    attachment of the PDF.
    """
    if len(document) > MAX_PDF_BYTES:
        raise InvalidInput("certificate_too_large", max_bytes=MAX_PDF_BYTES)
    try:
        attachments = list(pypdf.PdfReader(io.BytesIO(document), strict=True).attachment_list)
        if [attached.name for attached in attachments] == [ATTACHMENT]:
            return _content(attachments[0])
    except _UNREADABLE:
        raise InvalidInput("certificate_pdf_malformed") from None
    raise InvalidInput("certificate_pdf_attachments", found=len(attachments))


def _chapter(signed: SignedCertificate, language: Language) -> tuple[str, list[Line]]:
    words = certificate_words(language)
    return f"{signed.certificate.recording_id} - {words['page']}", list(build_lines(signed, language))


def _content(attached: EmbeddedFile) -> bytes:
    """Return the bytes of a PDF attachment. Raises ValueError if the attachment is encoded. A PDF of `render_pdf`
    has no encoded attachment, and decoding an attacker's attachment can take minutes.
    """
    places = cast("DictionaryObject", attached.pdf_object["/EF"])
    streams = [
        cast("DictionaryObject", places[name].get_object()) for name in ("/UF", "/F") if name in places
    ]
    if any("/Filter" in stream for stream in streams):
        raise ValueError("encoded")
    return attached.content
