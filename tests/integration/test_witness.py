"""Tests of the witness client with the test witness of the dev stack, which follows C2SP tlog-witness strictly."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from app.errors import AppError, Timeout, UpstreamFailed
from app.integrations.witness.client import Witness
from app.transparency_log.checkpoints import (
    Checkpoint,
    Ed25519Cosigner,
    Ed25519Signer,
    MlDsa44Cosigner,
    sign_checkpoint,
    verify_note,
)
from app.transparency_log.merkle import EMPTY_ROOT, Frontier, leaf_hash
from app.transparency_log.notes import NoteSignature, SignedNote, VerifierKey
from app.transparency_log.tiles import TileId, consistency_proof
from devstack.witness.app import create_witness_app
from devstack.witness.witness import TestWitness, WitnessRecord

pytestmark = pytest.mark.anyio

ORIGIN = "resguardo/test-practice/2027"
SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(32))
COSIGNER = Ed25519Cosigner.from_seed("witness.example/test", b"w" * 32)
NOW = 1_800_000_000


@dataclass
class Log:
    """A log in memory, with at most 256 leaves."""

    leaves: list[bytes] = field(default_factory=list)

    def grow(self, count: int, seed: str = "") -> None:
        self.leaves += [
            leaf_hash(f"{seed}{number}".encode())
            for number in range(len(self.leaves), len(self.leaves) + count)
        ]

    def note(self, signer: Ed25519Signer = SIGNER) -> SignedNote:
        root = Frontier().extend(self.leaves).root
        return sign_checkpoint(Checkpoint(signer.verifier_key.name, len(self.leaves), root), signer)

    def proof(self, old_size: int) -> list[bytes]:
        size = len(self.leaves)
        return consistency_proof(old_size, size, {TileId(0, 0, size): b"".join(self.leaves)})


@dataclass
class Harness:
    path: Path
    log: Log
    server: TestWitness
    http: httpx.AsyncClient
    client: Witness

    async def add(self, old_size: int) -> NoteSignature | int:
        return await self.client.add_checkpoint(old_size, self.log.proof(old_size), self.log.note())


def make_server(path: Path, **settings: float) -> TestWitness:
    return TestWitness(
        [COSIGNER, MlDsa44Cosigner.from_seed("witness.example/test", b"m" * 32)],
        WitnessRecord(path),
        lambda origin: [SIGNER.verifier_key] if origin == ORIGIN else [],
        clock=lambda: NOW,
    )


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    path = tmp_path / "witness.json"
    server = make_server(path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_witness_app(server))) as http:
        client = Witness("http://witness.test/", COSIGNER.verifier_key, http=http)
        log = Log()
        log.grow(3)
        yield Harness(path, log, server, http, client)


async def test_witness_cosigns_the_first_checkpoint_and_a_consistent_extension(harness: Harness) -> None:
    first = await harness.add(0)
    harness.log.grow(4)
    second = await harness.add(3)

    assert isinstance(first, NoteSignature)
    assert isinstance(second, NoteSignature)
    (verified,) = verify_note(SignedNote(harness.log.note().text, (second,)), [COSIGNER.verifier_key])
    assert verified.time == NOW


async def test_witness_cosigns_the_same_checkpoint_again(harness: Harness) -> None:
    await harness.add(0)
    again = await harness.client.add_checkpoint(3, [], harness.log.note())
    assert isinstance(again, NoteSignature)


async def test_witness_that_is_ahead_or_behind_returns_its_size(harness: Harness) -> None:
    await harness.add(0)
    harness.log.grow(4)
    assert await harness.add(0) == 3
    assert await harness.add(5) == 3
    assert isinstance(await harness.add(3), NoteSignature)


async def test_witness_refuses_a_split_view(harness: Harness) -> None:
    await harness.add(0)
    other = Log()
    other.grow(7, seed="other")
    with pytest.raises(UpstreamFailed, match="witness_inconsistent"):
        await harness.client.add_checkpoint(3, other.proof(3), other.note())
    same_size = Log()
    same_size.grow(3, seed="other")
    with pytest.raises(UpstreamFailed, match="witness_inconsistent"):
        await harness.client.add_checkpoint(3, [], same_size.note())
    newest = harness.server.record.newest(ORIGIN)
    assert newest is not None
    assert newest.size == 3


async def test_witness_refuses_a_proof_from_the_empty_tree(harness: Harness) -> None:
    with pytest.raises(UpstreamFailed, match="witness_inconsistent"):
        await harness.client.add_checkpoint(0, [bytes(32)], harness.log.note())


async def test_witness_refuses_a_key_and_an_origin_that_it_does_not_know(harness: Harness) -> None:
    forged = Ed25519Signer.from_seed(ORIGIN, b"x" * 32)
    with pytest.raises(UpstreamFailed, match="witness_key_refused"):
        await harness.client.add_checkpoint(0, [], harness.log.note(forged))
    unknown = Ed25519Signer.from_seed("resguardo/other/2027", bytes(32))
    with pytest.raises(UpstreamFailed, match="witness_log_unknown"):
        await harness.client.add_checkpoint(0, [], harness.log.note(unknown))


async def test_record_survives_a_restart_of_the_witness(harness: Harness) -> None:
    await harness.add(0)
    restarted = make_server(harness.path)
    newest = restarted.record.newest(ORIGIN)
    assert newest is not None
    assert newest.size == 3


async def test_record_is_written_before_the_answer(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(origin: str, note: bytes) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(harness.server.record, "keep", fail)
    with pytest.raises(OSError, match="disk full"):
        harness.server.add_checkpoint(b"old 0\n\n" + harness.log.note().format())


async def test_witness_serves_the_newest_checkpoint_with_its_cosignature(harness: Harness) -> None:
    origin_hash = hashlib.sha256(ORIGIN.encode()).hexdigest()
    url = f"http://witness.test/{origin_hash}/checkpoint"
    assert (await harness.http.get(url)).status_code == 404
    await harness.add(0)
    answer = await harness.http.get(url)
    note = SignedNote.parse(answer.content)
    assert {one.key for one in verify_note(note, [SIGNER.verifier_key, COSIGNER.verifier_key])} == {
        SIGNER.verifier_key,
        COSIGNER.verifier_key,
    }


BODIES = {
    "no_old_line": (b"\n{note}", 400),
    "leading_zero": (b"old 00\n\n{note}", 400),
    "no_empty_line": (b"old 0\n", 400),
    "old_is_larger": (b"old 4\n\n{note}", 400),
    "bad_base64": (b"old 0\nx\n\n{note}", 400),
    "short_hash": (b"old 0\nAAAA\n\n{note}", 400),
    "many_hashes": (b"old 0\n" + b"A" * 43 + b"=\n" + (b"A" * 43 + b"=\n") * 63 + b"\n{note}", 400),
    "no_note": (b"old 0\n\nhello", 400),
}


@pytest.mark.parametrize("name", BODIES)
async def test_malformed_request_is_refused(harness: Harness, name: str) -> None:
    template, status = BODIES[name]
    body = template.replace(b"{note}", harness.log.note().format())
    answer = await harness.http.post("http://witness.test/add-checkpoint", content=body)
    assert answer.status_code == status


async def test_empty_tree_needs_its_own_root(harness: Harness) -> None:
    text = f"{ORIGIN}\n0\n".encode() + b"A" * 43 + b"=\n"
    note = SignedNote(text, (SIGNER.sign(text),))
    body = b"old 0\n\n" + note.format()
    assert (await harness.http.post("http://witness.test/add-checkpoint", content=body)).status_code == 422
    empty = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), SIGNER)
    assert isinstance(await harness.client.add_checkpoint(0, [], empty), NoteSignature)


Answer = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


def _raise(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


NOTE = Log(leaves=[leaf_hash(b"0")]).note()
OTHER = Ed25519Cosigner.from_seed("witness.example/other", b"o" * 32)


@pytest.mark.parametrize(
    ("answer", "reason", "kind"),
    [
        (_raise(httpx.ConnectError("x")), "witness_unreachable", UpstreamFailed),
        (_raise(httpx.ReadTimeout("x")), "witness_timeout", Timeout),
        (_raise(httpx.RemoteProtocolError("x")), "witness_failed", UpstreamFailed),
        (lambda _: httpx.Response(500, text="x"), "witness_failed", UpstreamFailed),
        (lambda _: httpx.Response(302, headers={"location": "/"}), "witness_failed", UpstreamFailed),
        (lambda _: httpx.Response(200, text=""), "witness_failed", UpstreamFailed),
        (lambda _: httpx.Response(200, text="— x AAAA\n"), "witness_failed", UpstreamFailed),
        (lambda _: httpx.Response(200, content=b"\xff"), "witness_failed", UpstreamFailed),
        (lambda _: httpx.Response(200, text="x" * 100_000), "witness_failed", UpstreamFailed),
        (
            lambda _: httpx.Response(200, text=OTHER.cosign(NOTE.text, NOW).format()),
            "witness_failed",
            UpstreamFailed,
        ),
        (
            lambda _: httpx.Response(200, text=COSIGNER.cosign(b"a\n1\n" + b"A" * 43 + b"=\n", NOW).format()),
            "witness_failed",
            UpstreamFailed,
        ),
        (lambda _: httpx.Response(409, text="3\n"), "witness_failed", UpstreamFailed),
        (
            lambda _: httpx.Response(409, text="-3\n", headers={"content-type": "text/x.tlog.size"}),
            "witness_failed",
            UpstreamFailed,
        ),
    ],
)
async def test_answer_that_the_specification_does_not_allow_is_an_error(
    answer: Callable[[httpx.Request], httpx.Response], reason: str, kind: type[AppError]
) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = Witness("http://witness.test", COSIGNER.verifier_key, http=http)
        with pytest.raises(kind, match=reason):
            await client.add_checkpoint(0, [], NOTE)


async def test_cosignature_of_another_witness_beside_ours_is_ignored() -> None:
    ours, other = COSIGNER.cosign(NOTE.text, NOW), OTHER.cosign(NOTE.text, NOW)

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=other.format() + ours.format())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = Witness("http://witness.test", VerifierKey.parse(COSIGNER.verifier_key.format()), http=http)
        assert await client.add_checkpoint(0, [], NOTE) == ours
