"""Parses a form of `multipart/form-data` (RFC 7578) as strictly as the vendor's own client writes it."""

import re
from dataclasses import dataclass

from devstack.openai.refusals import Refusal

_NAME = re.compile(r'; name="([^"\r\n]*)"')
_FILENAME = re.compile(r'; filename="([^"\r\n]*)"')


@dataclass(frozen=True)
class Form:
    """The fields of a form with their values in order, and its files by field name, with their names and contents."""

    fields: dict[str, list[str]]
    files: dict[str, tuple[str, bytes]]


def parse_form(content_type: str, body: bytes) -> Form:
    """Parse a form. Raises Refusal."""
    boundary = re.fullmatch(
        r'multipart/form-data; ?boundary="?([A-Za-z0-9\'()+_,./:=? -]{1,70})"?', content_type
    )
    if boundary is None:
        raise Refusal(400, "Could not parse multipart form")
    delimiter = b"\r\n--" + boundary[1].encode()
    parts = (b"\r\n" + body).split(delimiter)
    is_whole = len(parts) > 1 and not parts[0] and parts[-1] in (b"--", b"--\r\n")
    if not is_whole or not all(part.startswith(b"\r\n") for part in parts[1:-1]):
        raise Refusal(400, "Could not parse multipart form")
    form = Form({}, {})
    for part in parts[1:-1]:
        _add(form, part[2:])
    return form


def _add(form: Form, part: bytes) -> None:
    head, found, content = part.partition(b"\r\n\r\n")
    name = _NAME.search(head.decode("utf-8", "replace"))
    filename = _FILENAME.search(head.decode("utf-8", "replace"))
    if not found or name is None:
        raise Refusal(400, "Could not parse multipart form")
    if filename is None:
        form.fields.setdefault(name[1], []).append(content.decode("utf-8", "replace"))
    else:
        form.files[name[1]] = (filename[1], content)
