"""The real litewitness cosigns the checkpoints of our log, and refuses what a witness must refuse."""

from collections.abc import AsyncIterator, Iterator

import pytest

from app.errors import UpstreamFailed
from app.integrations.witness.client import Witness
from app.transparency_log.checkpoints import Checkpoint, Ed25519Signer, sign_checkpoint, verify_note
from app.transparency_log.merkle import Frontier, leaf_hash
from app.transparency_log.notes import NoteSignature, SignedNote
from app.transparency_log.tiles import TileId, consistency_proof
from tests.integration.test_audit_publishing import Publishing, publishing
from tests.live import litewitness
from tests.live.litewitness import LiteWitness

pytestmark = pytest.mark.anyio

__all__ = ["publishing"]

YEAR = 2027


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteWitness]:
    with litewitness.running(tmp_path_factory.mktemp("litewitness")) as running:
        yield running


@pytest.fixture
def signer(real: LiteWitness, request: pytest.FixtureRequest) -> Ed25519Signer:
    """Return the key of a log of its own for each test, which litewitness knows."""
    origin = f"resguardo/{request.node.name.replace('_', '-')}/{YEAR}"
    made = Ed25519Signer.from_seed(origin, bytes(32))
    real.add_logs([made.verifier_key])
    return made


@pytest.fixture
async def client(real: LiteWitness) -> AsyncIterator[Witness]:
    made = Witness(real.url, real.key)
    yield made
    await made.aclose()


def leaves(count: int, seed: str = "") -> list[bytes]:
    return [leaf_hash(f"{seed}{number}".encode()) for number in range(count)]


def note_of(hashes: list[bytes], signer: Ed25519Signer) -> SignedNote:
    root = Frontier().extend(hashes).root
    return sign_checkpoint(Checkpoint(signer.verifier_key.name, len(hashes), root), signer)


def proof_of(hashes: list[bytes], old_size: int) -> list[bytes]:
    return consistency_proof(old_size, len(hashes), {TileId(0, 0, len(hashes)): b"".join(hashes)})


async def test_litewitness_cosigns_a_growing_log(client: Witness, signer: Ed25519Signer) -> None:
    for old, new in ((0, 1), (1, 5), (5, 5), (5, 200), (200, 255)):
        hashes = leaves(new)
        given = await client.add_checkpoint(old, proof_of(hashes, old), note_of(hashes, signer))
        assert isinstance(given, NoteSignature)
        (verified,) = verify_note(SignedNote(note_of(hashes, signer).text, (given,)), [client.key])
        assert verified.time is not None


async def test_litewitness_cosigns_what_the_worker_publishes(
    real: LiteWitness, publishing: Publishing
) -> None:
    keys = publishing.keys(publishing.year)
    real.add_logs([keys.signer.verifier_key])
    witness = Witness(real.url, real.key)
    for count in (3, 300, 7):
        publishing.use_witness(witness)
        await publishing.publish(count)
        verified = verify_note(
            SignedNote.parse(await publishing.latest()), [real.key, keys.signer.verifier_key]
        )
        assert {one.key for one in verified} == {real.key, keys.signer.verifier_key}
    await publishing.require_healthy()
    await witness.aclose()


async def test_litewitness_that_is_elsewhere_names_its_size(client: Witness, signer: Ed25519Signer) -> None:
    await client.add_checkpoint(0, [], note_of(leaves(7), signer))
    hashes = leaves(9)
    assert await client.add_checkpoint(0, [], note_of(hashes, signer)) == 7
    assert await client.add_checkpoint(8, proof_of(hashes, 8), note_of(hashes, signer)) == 7


async def test_litewitness_refuses_a_split_view(client: Witness, signer: Ed25519Signer) -> None:
    await client.add_checkpoint(0, [], note_of(leaves(7), signer))
    other = leaves(9, "other")
    with pytest.raises(UpstreamFailed, match="witness_inconsistent"):
        await client.add_checkpoint(7, proof_of(other, 7), note_of(other, signer))


async def test_litewitness_refuses_another_key_of_the_log(client: Witness, signer: Ed25519Signer) -> None:
    thief = Ed25519Signer.from_seed(signer.verifier_key.name, b"x" * 32)
    with pytest.raises(UpstreamFailed, match="witness_key_refused"):
        await client.add_checkpoint(0, [], note_of(leaves(7), thief))
