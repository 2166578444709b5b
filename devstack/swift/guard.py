"""Two WSGI filters that give the store's three users different rights.

Swift's container ACLs cannot express "write, but neither read nor delete", and a multipart upload itself reads and
deletes in the segments container. The *door*, in front of s3api, stores the S3 call that the client requested, for
the guard. The *door* refuses requests that do not address a plain bucket: Swift's own API, the segments container,
and requests without a signature. The *guard*, between s3api and tempauth, refuses requests that the user may not
send. The guard grants no access: tempauth checks the signature, and the ACLs still apply.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

_CALL = "resguardo.s3_call"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SWIFT_PATHS = frozenset({"v1.0", "auth", "info"})
_SIGNATURES = frozenset({"x-amz-signature", "signature"})
_MEANINGLESS = frozenset({"x-id"})
"""The parameter with the name of the operation, which the AWS SDKs for Go and JavaScript add. It has no effect
(seen 2026-11-29).
"""

_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"
)


@dataclass(frozen=True)
class S3Call:
    """The client's request, before s3api turns it into several requests to Swift."""

    method: str
    bucket: str
    key: str
    parameters: frozenset[str]
    copies_from: str | None


Permission = Callable[[S3Call], bool]


def _call(environ: Environ) -> S3Call:
    bucket, _, key = environ["PATH_INFO"].removeprefix("/").partition("/")
    names = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    return S3Call(
        method=environ["REQUEST_METHOD"],
        bucket=bucket,
        key=key,
        parameters=frozenset(name.lower() for name, _ in names) - _MEANINGLESS,
        copies_from=environ.get("HTTP_X_AMZ_COPY_SOURCE"),
    )


def _is_plain_bucket(name: str) -> bool:
    return _BUCKET.fullmatch(name) is not None and name not in _SWIFT_PATHS


def _passes_door(call: S3Call, environ: Environ) -> bool:
    source = call.copies_from
    return (
        (_is_plain_bucket(call.bucket) or environ["PATH_INFO"] == "/")
        and (source is None or _is_plain_bucket(unquote(source).removeprefix("/").partition("/")[0]))
        and ("HTTP_AUTHORIZATION" in environ or not call.parameters.isdisjoint(_SIGNATURES))
    )


def reader_may(call: S3Call) -> bool:
    """Allow GET and HEAD of an object, and no other request to the object or the bucket."""
    plain = all(name.startswith(("x-amz-", "response-")) or name == "partnumber" for name in call.parameters)
    return call.method in ("GET", "HEAD") and call.key != "" and plain


def recorder_may(call: S3Call) -> bool:
    """Allow PutObject and the five steps of a multipart upload, but no copy, because a copy reads."""
    if call.key == "" or call.copies_from is not None:
        return False
    steps = call.parameters & {"uploads", "uploadid", "partnumber"}
    if any(not name.startswith("x-amz-") for name in call.parameters - steps):
        return False
    return (call.method, steps) in {
        ("PUT", frozenset()),
        ("POST", frozenset({"uploads"})),
        ("PUT", frozenset({"uploadid", "partnumber"})),
        ("POST", frozenset({"uploadid"})),
        ("DELETE", frozenset({"uploadid"})),
    }


def _refuse(start_response: StartResponse) -> Iterable[bytes]:
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(_BODY)))]
    start_response("403 Forbidden", headers)
    return [_BODY]


@dataclass
class Door:
    """The WSGI filter in front of s3api, which passes only signed S3 requests to a plain bucket.

    The filter lets only one write with `If-None-Match` through at a time. Only one of several concurrent writes may
    succeed. Swift 2.38 checks whether the object exists before it reads the body, so all of them would succeed
    (tested 2026-11-21).
    """

    app: Application
    exclusive: AbstractContextManager[Any] = field(
        default_factory=threading.Lock
    )  # an eventlet semaphore in the store's process

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        call = _call(environ)
        if "swift.authorize_override" not in environ and not _passes_door(call, environ):
            return _refuse(start_response)
        environ[_CALL] = call
        with self.exclusive if "HTTP_IF_NONE_MATCH" in environ else nullcontext():
            return self.app(environ, start_response)


@dataclass
class Guard:
    """The WSGI filter between s3api and tempauth, which checks whether the user may send the S3 call."""

    app: Application
    permissions: Mapping[str, Permission]

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if "swift.authorize_override" in environ or self._may(environ):
            return self.app(environ, start_response)
        return _refuse(start_response)

    def _may(self, environ: Environ) -> bool:
        signed = environ.get("s3api.auth_details")
        if signed is None:
            return False
        permission = self.permissions.get(signed["access_key"])
        return permission is None or permission(environ[_CALL])


def door_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[[Application], Door]:
    """Return the filter for paste's `[filter:door]`."""
    return Door


def guard_factory(
    global_conf: dict[str, str], *, reader: str, recorder: str, **local_conf: str
) -> Callable[[Application], Guard]:
    """Return the filter for paste's `[filter:guard]`. The filter passes the requests of unknown users on to
    tempauth, which refuses them.
    """
    permissions: dict[str, Permission] = {reader: reader_may, recorder: recorder_may}
    return lambda app: Guard(app, permissions)
