"""Presigns URLs, with which a client without credentials reads or writes one object. This module sends no request.

The services that call this module first decide who may download or upload, and write this to the audit log.
"""

import re
from typing import Final, Literal

from app.errors import InvalidInput
from app.integrations.storage.caller import S3Caller

Disposition = Literal["attachment", "inline"]
"""Whether a browser saves the object as a file or shows it."""

MAX_URL_SECONDS: Final = 900

MAX_PUT_BYTES: Final = 5_000_000_000
"""The largest object of a single PUT: S3 takes 5 GB, R2 5 MiB less than 5 GiB (both documentations, checked
2026-11-21).
"""

_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def upload_headers(content_type: str, size_bytes: int) -> dict[str, str]:
    """Return the headers that a client must send with a URL of `presign_put`. A browser sets the Content-Length
    header of an upload itself.
    """
    return {"Content-Type": content_type, "Content-Length": str(size_bytes), "If-None-Match": "*"}


def presign_get(
    s3: S3Caller,
    key: str,
    *,
    expires_in_seconds: int,
    filename: str,
    content_type: str | None = None,
    disposition: Disposition = "attachment",
) -> str:
    """Return a URL that downloads the object as `filename`, or that plays the object in the browser if
    `disposition` is "inline". The URL is signed without a call to the store.

    The store answers with the content type `content_type`, or, if `content_type` is None, with the type with which
    the object was stored. The presigned URL expires after 1 to 900 s. Until the URL expires, everyone who has it
    can use it repeatedly, so treat the URL as a secret. Raises InvalidInput (`url_lifetime`, `filename`). The
    filename of a download has at most 100 characters: ASCII letters, digits and `._-`.
    """
    if not 1 <= expires_in_seconds <= MAX_URL_SECONDS:
        raise InvalidInput("url_lifetime", maximum=MAX_URL_SECONDS)
    if _FILENAME.fullmatch(filename) is None:
        raise InvalidInput("filename")
    answered = {"ResponseContentDisposition": f'{disposition}; filename="{filename}"'}
    if content_type is not None:
        answered["ResponseContentType"] = content_type
    return s3.client.generate_presigned_url(
        "get_object",
        Params={"Bucket": s3.bucket, "Key": key, **answered},
        ExpiresIn=expires_in_seconds,
        HttpMethod="GET",
    )


def presign_put(
    s3: S3Caller, key: str, content_type: str, size_bytes: int, *, expires_in_seconds: int
) -> str:
    """Return a URL with which a client can store one object of exactly this type and size, and only once. The URL
    is signed without a call to the store.

    The client must send `upload_headers` unchanged, because the signature covers them. Because of the header
    `If-None-Match: *`, only the first upload with the URL succeeds, and the store answers 412 to each later one.
    The URL expires after 1 to 900 s. An upload that began before the URL expired may finish afterwards. Treat the
    presigned URL as a secret. Raises InvalidInput (`url_lifetime`), and ValueError for a size that a single PUT
    cannot have.
    """
    if not 1 <= expires_in_seconds <= MAX_URL_SECONDS:
        raise InvalidInput("url_lifetime", maximum=MAX_URL_SECONDS)
    if not 1 <= size_bytes <= MAX_PUT_BYTES:
        raise ValueError("no such size")
    return s3.client.generate_presigned_url(
        "put_object",
        Params={
            "Bucket": s3.bucket,
            "Key": key,
            "ContentType": content_type,
            "ContentLength": size_bytes,
            "IfNoneMatch": "*",
        },
        ExpiresIn=expires_in_seconds,
        HttpMethod="PUT",
    )
