"""Asks one witness to cosign a checkpoint: `POST <url>/add-checkpoint` of C2SP tlog-witness.

A witness remembers the size and the root of the newest checkpoint that it cosigned. It cosigns a new checkpoint only
with a proof that the new tree extends the remembered one. A witness learns the origin, the size and the root of the
log, and nothing about its events. The client follows no redirect, and reads at most `ANSWER_BYTES` of an answer.

The specification is c2sp.org/tlog-witness, as of 2026-07-22. litewitness answers an unknown origin with 403 instead of
404 (torchwood, `internal/witness/witness.go`, checked 2026-11-30).
"""

import base64
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import httpx

from app.errors import Timeout, UpstreamFailed
from app.transparency_log.checkpoints import verify_note
from app.transparency_log.errors import TransparencyLogError
from app.transparency_log.notes import NoteSignature, SignedNote, VerifierKey

ANSWER_BYTES: Final = 65_536
TIMEOUT_SECONDS: Final = 10.0

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")
_SIZE_TYPE: Final = "text/x.tlog.size"
_REASONS: Final[Mapping[int, str]] = {
    403: "witness_key_refused",
    404: "witness_log_unknown",
    422: "witness_inconsistent",
}


class Witness:
    """The client of one witness. `aclose` does not close an `http` client that the caller passed in."""

    def __init__(
        self,
        url: str,
        key: VerifierKey,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.key = key
        self._url = f"{url.rstrip('/')}/add-checkpoint"
        trusts_proxies = urlsplit(url).hostname not in _LOOPBACK
        self._own_http = (
            httpx.AsyncClient(timeout=timeout_seconds, trust_env=trusts_proxies) if http is None else None
        )
        self._http = http

    @property
    def name(self) -> str:
        """Return the name in the witness's verifier key."""
        return self.key.name

    async def aclose(self) -> None:
        """Close the connections."""
        if self._own_http is not None:
            await self._own_http.aclose()

    async def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: SignedNote
    ) -> NoteSignature | int:
        """Return the witness's cosignature of the checkpoint, after verifying it. If `old_size` is not the size that
        the witness remembers, return the remembered size (status 409).

        Raises UpstreamFailed (witness_unreachable, witness_key_refused, witness_log_unknown, witness_inconsistent,
        witness_failed) and Timeout (witness_timeout).
        """
        status, content_type, body = await self._post(_format_request(old_size, proof, note))
        if status == 200:
            return self._read_cosignature(body, note)
        if status == 409:
            return _read_size(content_type, body)
        raise UpstreamFailed(_REASONS.get(status, "witness_failed"), status=status)

    async def _post(self, request: bytes) -> tuple[int, str, bytes]:
        http = self._own_http or self._http
        assert http is not None  # noqa: S101 - one of the two was made above
        body = bytearray()
        async with (
            _translated(),
            http.stream(
                "POST",
                self._url,
                content=request,
                headers={"Content-Type": "text/plain; charset=utf-8"},
                follow_redirects=False,
            ) as answer,
        ):
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES:
                    raise UpstreamFailed("witness_failed", status=answer.status_code)
        return answer.status_code, answer.headers.get("content-type", ""), bytes(body)

    def _read_cosignature(self, body: bytes, note: SignedNote) -> NoteSignature:
        try:
            lines = body.decode().splitlines()
            given = tuple(NoteSignature.parse(line) for line in lines if line)
            ours = [one for one in given if one.is_by(self.key)]
            verify_note(SignedNote(note.text, tuple(ours)), [self.key])
        except (TransparencyLogError, UnicodeDecodeError) as error:
            raise UpstreamFailed("witness_failed", status=200) from error
        return ours[0]


def _format_request(old_size: int, proof: Sequence[bytes], note: SignedNote) -> bytes:
    lines = [f"old {old_size}", *(base64.b64encode(one).decode() for one in proof), ""]
    return "".join(f"{line}\n" for line in lines).encode() + note.format()


def _read_size(content_type: str, body: bytes) -> int:
    found = _SIZE.fullmatch(body)
    if found is None or content_type.split(";")[0].strip() != _SIZE_TYPE:
        raise UpstreamFailed("witness_failed", status=409)
    return int(found[1])


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise Timeout("witness_timeout") from error
    except httpx.ConnectError as error:
        raise UpstreamFailed("witness_unreachable") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UpstreamFailed("witness_failed") from error
