"""`resguardo audit verify` against a real database, two real buckets and a witness, as the publisher leaves them."""

from datetime import UTC, datetime

import pytest

from app.audit.verification.checkpoints import make_policy
from app.audit.verification.checks import require_consistent_checkpoints
from app.audit.verification.model import Report
from app.audit.verification.published import PublishedBucket
from app.audit.verification.receipts import make_receipt
from app.audit.verification.service import VerificationOrder, verify
from app.audit.verification.store import SealedRows
from app.errors import UpstreamFailed
from app.integrations.witness.client import Witness
from app.transparency_log.checkpoints import Ed25519Cosigner
from app.transparency_log.events import compute_entry
from app.transparency_log.merkle import leaf_hash
from app.transparency_log.policies import Policy
from app.transparency_log.proofs import TransparencyProof
from tests.audit_log import names
from tests.integration.test_audit_publishing import COSIGNER, SEED, Publishing, publishing

pytestmark = pytest.mark.anyio
__all__ = ["publishing"]


def _policy(one: Publishing) -> Policy:
    years = (datetime.now(UTC).year,)
    return make_policy(one.deployment, years, SEED, (), (COSIGNER.verifier_key.format(),))


async def _verify(one: Publishing, *, with_second: bool = False) -> Report:
    buckets = [PublishedBucket(one.storage)]
    if with_second:
        buckets.append(PublishedBucket(one.second, "the second bucket"))
    witness = Witness("http://witness.test", COSIGNER.verifier_key, http=one.http)
    rows = SealedRows(one.pool)
    return await verify(VerificationOrder(_policy(one), rows, buckets, witnesses=(witness,)))


async def test_a_published_log_has_no_findings(publishing: Publishing) -> None:
    for count in (300, 1, 300):
        await publishing.publish(count)
        await publishing.second_bucket.run()
    await publishing.seal(5)
    report = await _verify(publishing, with_second=True)
    assert report.findings == ()
    assert report.logs[0].published_size == publishing.published()
    rows = SealedRows(publishing.pool)
    await require_consistent_checkpoints(rows, _policy(publishing), [PublishedBucket(publishing.storage)])


async def test_a_receipt_has_the_cosignatures_of_the_witnesses(publishing: Publishing) -> None:
    [event_id] = publishing.add(1)
    await publishing.publish(300)
    async with publishing.pool.as_service("make_audit_receipt") as tx:
        receipt = await make_receipt(tx, event_id)
    assert receipt.is_published
    proof = TransparencyProof.parse(receipt.proof)
    leaf = leaf_hash(compute_entry(proof.extra or b"", receipt.event))
    verified = proof.verify(leaf, _policy(publishing))
    assert [one.key for one in verified.cosignatures] == [COSIGNER.verifier_key]


async def test_a_log_that_was_adopted_after_a_restore_has_only_a_notice(publishing: Publishing) -> None:
    await publishing.publish(300)
    publishing.back_up()
    await publishing.publish(30)
    publishing.restore()
    publishing.add(10)
    assert "rolled_back" in names(await _verify(publishing))
    await publishing.publish()
    await publishing.publish(1)
    report = await _verify(publishing)
    assert (names(report), report.is_clean) == ({"adopted_after_a_restore"}, True)
    assert report.findings[0].count == 30
    publishing.tamper(
        "delete from audit.events where id = (select event_id from audit.leaves where index = 5)",
        "update audit.leaves set event_id = null, recorded_at = null where index = 5",
    )
    assert "deleted" in names(await _verify(publishing))


async def test_an_adoption_explains_no_event_that_it_linked(publishing: Publishing) -> None:
    """The backup had four of the adopted events in its queue. Whoever deletes one of them cannot say that the restore
    lost it.
    """
    await publishing.publish(300)
    publishing.add(4)
    publishing.back_up()
    await publishing.publish(30)
    publishing.restore()
    await publishing.publish()
    await publishing.publish(1)
    assert names(await _verify(publishing)) == {"adopted_after_a_restore"}
    publishing.tamper(
        "delete from audit.events where id = (select event_id from audit.leaves where index = 301)",
        "update audit.leaves set event_id = null, recorded_at = null where index = 301",
    )
    assert "deleted" in names(await _verify(publishing))


async def test_a_checkpoint_without_the_quorum_is_a_failure(
    publishing: Publishing,
) -> None:
    await publishing.publish(10)
    policy = make_policy(
        publishing.deployment,
        (publishing.year,),
        SEED,
        (),
        (
            COSIGNER.verifier_key.format(),
            Ed25519Cosigner.from_seed("other.example", b"o" * 32).verifier_key.format(),
        ),
    )
    buckets = [PublishedBucket(publishing.storage)]
    report = await verify(VerificationOrder(policy, SealedRows(publishing.pool), buckets))
    assert names(report) == {"not_cosigned"}


async def test_removed_objects_are_named(publishing: Publishing) -> None:
    await publishing.publish(300)
    first = publishing.published()
    await publishing.publish(300)
    await publishing.second_bucket.run()
    prefix = f"audit/{publishing.origin}"
    await publishing.storage.delete(f"{prefix}/checkpoints/{first}")
    await publishing.storage.delete(f"{prefix}/tile/0/000")
    await publishing.second.delete(f"{prefix}/tile/entries/000")
    report = await _verify(publishing, with_second=True)
    assert names(report) == {"checkpoint_missing", "tile_missing"}
    logs = {one.log for one in report.findings if one.name == "tile_missing"}
    assert logs == {publishing.origin, f"{publishing.origin} in the second bucket"}


@pytest.mark.parametrize(
    ("path", "name"), [("checkpoints/999", "checkpoint_forged"), ("tile/0/000", "tile_changed")]
)
async def test_an_object_that_is_too_large_is_named(publishing: Publishing, path: str, name: str) -> None:
    await publishing.publish(300)
    key = f"audit/{publishing.origin}/{path}"
    await publishing.storage.delete(key)
    assert await publishing.storage.put_new(key, bytes(1_100_000), "text/plain")
    assert name in names(await _verify(publishing))


async def test_an_unreachable_bucket_is_no_finding(publishing: Publishing) -> None:
    await publishing.publish(10)
    publishing.storage.down = UpstreamFailed("storage_unreachable")
    with pytest.raises(UpstreamFailed, match="storage_unreachable"):
        await _verify(publishing)


async def test_a_witness_remembers_what_the_database_and_the_bucket_lost(publishing: Publishing) -> None:
    """The attacker restores the database, and removes the newer objects from the only bucket."""
    await publishing.publish(300)
    publishing.back_up()
    before = set(await publishing.objects())
    latest = await publishing.latest()
    await publishing.publish(30)
    publishing.restore()
    for key in set(await publishing.objects()) - before:
        await publishing.storage.delete(f"audit/{publishing.origin}/{key}")
    await publishing.storage.put_replacing(
        f"audit-latest/{publishing.origin}/checkpoint", latest, "text/plain; charset=utf-8"
    )
    report = await _verify(publishing)
    [finding] = report.findings
    assert (finding.name, "witness.example/test" in finding.places[0].detail) == ("rolled_back", True)


async def test_a_silent_witness_is_a_notice(publishing: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    await publishing.publish(10)

    async def fail(*_: object) -> None:
        raise UpstreamFailed("witness_unreachable")

    monkeypatch.setattr(Witness, "add_checkpoint", fail)
    report = await _verify(publishing)
    assert (names(report), report.is_clean) == ({"witness_silent"}, True)
