"""Tests of signed notes, checkpoints, policies, receipts and canonical events."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from ipaddress import ip_address, ip_interface
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from app.transparency_log.checkpoints import (
    Checkpoint,
    Ed25519Cosigner,
    Ed25519Signer,
    MlDsa44Cosigner,
    sign_checkpoint,
    verify_note,
)
from app.transparency_log.errors import (
    EventError,
    NoteError,
    PolicyError,
    ProofError,
    QuorumError,
    SignatureError,
    TransparencyLogError,
)
from app.transparency_log.events import compute_entry, format_canonical_event
from app.transparency_log.merkle import Frontier, leaf_hash, tree_root
from app.transparency_log.notes import NoteSignature, SignatureType, SignedNote, VerifierKey
from app.transparency_log.policies import Group, Policy, Witness
from app.transparency_log.proofs import TransparencyProof
from tests.transparency_logs import PublishedLog, make_event

ORIGIN = "resguardo/test/2026"
SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(32))
WITNESS = Ed25519Cosigner.from_seed("witness.example/1", b"1" * 32)
SECOND = MlDsa44Cosigner.from_seed("witness.example/2", b"2" * 32)
CHECKPOINT = Checkpoint(ORIGIN, 3, tree_root([b"a" * 32, b"b" * 32, b"c" * 32]))
NOTE = sign_checkpoint(CHECKPOINT, SIGNER)

# The example of C2SP signed-note.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ER"
    "YNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()


def test_the_example_of_signed_note_verifies() -> None:
    key = VerifierKey.parse(EXAMPLE_KEY)
    assert key.format() == EXAMPLE_KEY
    (verified,) = verify_note(SignedNote.parse(EXAMPLE_NOTE), [key])
    assert (verified.key, verified.time) == (key, None)
    assert SignedNote.parse(EXAMPLE_NOTE).format() == EXAMPLE_NOTE


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.replace("530d903a", "530d903b"),
        lambda key: key.replace("530d903a", "530D903A"),
        lambda key: key.replace("example.com/foo", "example.com/bar"),
        lambda key: key.replace("+Aeky", "+Beky"),
        lambda key: key[:-4],
        lambda key: f"{key}=",
        lambda key: "",
        lambda key: "a+b",
        lambda key: key.replace("example.com/foo", "example.com/ foo"),
    ],
)
def test_a_malformed_verifier_key_is_refused(change: Callable[[str], str]) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(change(EXAMPLE_KEY))


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        EXAMPLE_NOTE[:-1],
        EXAMPLE_NOTE.replace("— ".encode(), b"- "),
        EXAMPLE_NOTE.replace(b"message", b"mes\tsage"),
        EXAMPLE_NOTE.replace(b"message", b"mes\xffsage"),
        EXAMPLE_NOTE.replace(b"Uw2Q", b"Uw2*"),
        EXAMPLE_NOTE + b"\n",
        EXAMPLE_NOTE.replace(b"example.com/foo Uw", b"example.com/f+o Uw"),
        EXAMPLE_NOTE + b"\xe2\x80\x94 name AAAA\n",
        EXAMPLE_NOTE + b"\n" * 1_000_000,
    ],
)
def test_a_malformed_note_is_refused(note: bytes) -> None:
    with pytest.raises(NoteError):
        SignedNote.parse(note)


def test_a_note_may_have_sixteen_signatures_and_more_of_unknown_keys() -> None:
    many = [Ed25519Cosigner.from_seed(f"witness.example/{n}", bytes([n]) * 32) for n in range(40)]
    note = SignedNote.parse(NOTE.with_signatures(one.cosign(NOTE.text, 7) for one in many).format())
    verified = verify_note(note, [SIGNER.verifier_key, *(one.verifier_key for one in many[:16])])
    assert [one.time for one in verified] == [None, *[7] * 16]


def test_the_signature_of_a_known_key_must_be_right() -> None:
    wrong = replace(NOTE.signatures[0], signature=bytes(64))
    for note in (SignedNote(NOTE.text, (wrong,)), NOTE.with_signatures([wrong])):
        with pytest.raises(SignatureError):
            verify_note(note, [SIGNER.verifier_key])
    with pytest.raises(SignatureError):
        verify_note(NOTE, [WITNESS.verifier_key])
    with pytest.raises(SignatureError):
        verify_note(SignedNote(NOTE.text + b"more\n", NOTE.signatures), [SIGNER.verifier_key])


@pytest.mark.parametrize("cosigner", [WITNESS, SECOND])
def test_a_cosignature_commits_to_its_time_and_the_checkpoint(
    cosigner: Ed25519Cosigner | MlDsa44Cosigner,
) -> None:
    signature = cosigner.cosign(NOTE.text, 1_679_315_147)
    note = SignedNote.parse(NOTE.with_signatures([signature]).format())
    _, verified = verify_note(note, [SIGNER.verifier_key, cosigner.verifier_key])
    assert verified.time == 1_679_315_147
    other = sign_checkpoint(replace(CHECKPOINT, size=4), SIGNER)
    for changed in (
        NOTE.with_signatures([replace(signature, signature=bytes(8) + signature.signature[8:])]),
        NOTE.with_signatures([replace(signature, signature=signature.signature[:8])]),
        NOTE.with_signatures([replace(signature, signature=b"\xff" * 8 + signature.signature[8:])]),
        other.with_signatures([signature]),
    ):
        with pytest.raises(SignatureError):
            verify_note(changed, [cosigner.verifier_key])


def test_an_ml_dsa_cosignature_covers_the_struct_of_the_specification() -> None:
    """The message is built here from the specification's fields, byte for byte."""
    signature = SECOND.cosign(NOTE.text, 5).signature
    message = (
        b"subtree/v1\n\0\x11witness.example/2\0\0\0\0\0\0\0\x05\x13resguardo/test/2026"
        + bytes(8)
        + b"\0\0\0\0\0\0\0\x03"
        + CHECKPOINT.root
    )
    SECOND._key.public_key().verify(signature[8:], message)
    assert signature[:8] == b"\0\0\0\0\0\0\0\x05"
    assert SECOND.verifier_key.type is SignatureType(6)


def test_each_log_has_another_key_from_one_seed() -> None:
    keys = {
        Ed25519Signer.from_seed(f"resguardo/test/{year}", bytes(32)).verifier_key for year in (2026, 2027)
    }
    assert len({key.public_key for key in keys}) == 2
    with pytest.raises(NoteError):
        sign_checkpoint(replace(CHECKPOINT, origin="resguardo/test/2027"), SIGNER)
    with pytest.raises(NoteError):
        Ed25519Signer.from_seed(ORIGIN, bytes(31))


def test_a_checkpoint_has_the_text_of_the_specification() -> None:
    root = base64.b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
    text = b"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert Checkpoint.parse(text) == Checkpoint("example.com/behind-the-sofa", 20852163, root)
    assert Checkpoint.parse(text).format() == text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n3\n", b"\n03\n"),
        (b"\n3\n", b"\n-3\n"),
        (b"\n3\n", b"\n\xd9\xa3\n"),
        (b"\n3\n", b"\n99999999999999999999\n"),
        (b"\n3\n", b"\n0\n"),
        (b"resguardo/test/2026", b""),
        (b"=\n", b"=\nextension\n"),
        (b"=\n", b"=\n\n"),
        (b"=\n", b"="),
        (b"=\n", b"\n"),
        (b"test", b"t\xffst"),
    ],
)
def test_a_malformed_checkpoint_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(CHECKPOINT.format().replace(old, new))


def test_the_empty_log_has_the_empty_root() -> None:
    empty = Checkpoint(ORIGIN, 0, Frontier().root)
    assert Checkpoint.parse(empty.format()) == empty


POLICY = Policy(
    (SIGNER.verifier_key,),
    {"one": Witness(WITNESS.verifier_key, "https://witness.example/"), "two": Witness(SECOND.verifier_key)},
    {"any": Group(1, ("one", "two"))},
    "any",
)


def test_a_policy_is_read_as_it_is_written() -> None:
    assert Policy.parse(POLICY.format().encode()) == POLICY


def test_a_policy_file_may_have_comments_and_tabs() -> None:
    log, witness = SIGNER.verifier_key.format(), WITNESS.verifier_key.format()
    content = f"\n # a comment \n\tlog {log}\thttps://log.example\nwitness w\xe9 {witness}\ngroup g all w\xe9\nquorum g"
    policy = Policy.parse(content.encode("latin-1"))
    assert policy.groups == {"g": Group(1, tuple(policy.witnesses))}
    assert Policy.parse(f"quorum none\nlog {log}".encode()).quorum == "none"


@pytest.mark.parametrize(
    "lines",
    [
        "log {log}",
        "quorum none\nquorum none",
        "quorum nobody",
        "quorum",
        "log {witness}\nquorum none",
        "witness w {log}\nquorum none",
        "witness none {witness}\nquorum none",
        "log {log}\nlog {log}\nquorum none",
        "witness w {witness}\nwitness v {witness}\nquorum none",
        "witness w {witness}\ngroup w any w\nquorum none",
        "witness w {witness}\ngroup g 2 w\nquorum none",
        "witness w {witness}\ngroup g 0 w\nquorum none",
        "witness w {witness}\ngroup g x w\nquorum none",
        "witness w {witness}\ngroup g any\nquorum none",
        "witness w {witness}\ngroup g any none\nquorum none",
        "witness w {witness}\ngroup g any w w\nquorum none",
        "witness w {witness}\ngroup g any w\ngroup h any w\nquorum none",
        "group g any w\nwitness w {witness}\nquorum none",
        "quorum w\nwitness w {witness}",
        "logs {log}\nquorum none",
        "log nothing\nquorum none",
        "quorum none\r",
        "",
    ],
)
def test_a_malformed_policy_is_refused(lines: str) -> None:
    content = lines.format(log=SIGNER.verifier_key.format(), witness=WITNESS.verifier_key.format())
    with pytest.raises(PolicyError):
        Policy.parse(content.encode())


def test_a_policy_needs_its_log_and_its_quorum() -> None:
    cosigned = NOTE.with_signatures([WITNESS.cosign(NOTE.text, 9)])
    verified = POLICY.evaluate(cosigned)
    assert (verified.checkpoint, verified.log_key) == (CHECKPOINT, SIGNER.verifier_key)
    assert [one.time for one in verified.cosignatures] == [9]
    with pytest.raises(QuorumError):
        POLICY.evaluate(NOTE)
    with pytest.raises(QuorumError):
        replace(POLICY, groups={"any": Group(2, ("one", "two"))}).evaluate(cosigned)
    with pytest.raises(SignatureError):
        POLICY.evaluate(SignedNote(NOTE.text, cosigned.signatures[1:]))
    stranger = Ed25519Signer.from_seed(ORIGIN, b"x" * 32)
    with pytest.raises(SignatureError):
        POLICY.evaluate(replace(cosigned, signatures=(stranger.sign(NOTE.text), *cosigned.signatures[1:])))
    assert replace(POLICY, quorum="none").evaluate(NOTE).cosignatures == ()


def test_the_key_of_one_log_does_not_sign_for_another() -> None:
    other = replace(CHECKPOINT, origin="resguardo/test/2027").format()
    note = SignedNote(other, (SIGNER.sign(other),))
    with pytest.raises(SignatureError):
        replace(POLICY, quorum="none").evaluate(note)


def test_nested_groups_count_their_members() -> None:
    keys = [Ed25519Cosigner.from_seed(f"w{n}", bytes([n]) * 32).verifier_key for n in range(5)]
    policy = Policy(
        (SIGNER.verifier_key,),
        {f"w{n}": Witness(key) for n, key in enumerate(keys)},
        {"x": Group(2, ("w0", "w1", "w2")), "y": Group(1, ("w3", "w4")), "z": Group(2, ("x", "y"))},
        "z",
    )
    assert Policy.parse(policy.format().encode()) == policy
    assert policy.has_quorum({"w0", "w2", "w4"})
    assert not policy.has_quorum({"w0", "w1", "w2"})
    assert not policy.has_quorum({"w0", "w3", "w4"})


@pytest.fixture
def log() -> PublishedLog:
    """Return a log of seven events that was never written."""
    log = PublishedLog(Path())
    log.append([make_event(number).entry for number in range(7)])
    return log


@pytest.mark.parametrize("index", range(7))
def test_a_receipt_proves_its_event_alone(log: PublishedLog, index: int) -> None:
    event = make_event(index)
    receipt = TransparencyProof.parse(log.receipt(index, event.salt).format())
    assert receipt == log.receipt(index, event.salt)
    assert receipt.extra is not None
    leaf = leaf_hash(compute_entry(receipt.extra, event.canonical))
    assert receipt.verify(leaf, log.policy).checkpoint.size == 7
    for wrong in (leaf_hash(make_event(index + 1).entry), bytes(32)):
        with pytest.raises(ProofError):
            receipt.verify(wrong, log.policy)
    with pytest.raises(ProofError):
        replace(receipt, index=(index + 1) % 7).verify(leaf, log.policy)
    assert base64.b64encode(event.salt).decode() not in repr(receipt)


def test_a_receipt_of_a_log_with_one_event_has_no_hashes() -> None:
    log = PublishedLog(Path())
    log.append([make_event(0).entry])
    content = log.receipt(0, make_event(0).salt).format()
    assert content.split(b"\n")[2:4] == [b"index 0", b""]
    TransparencyProof.parse(content).verify(leaf_hash(make_event(0).entry), log.policy)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"tlog-proof@v1", b"tlog-proof@v2"),
        (b"index 3", b"index 03"),
        (b"index 3", b"index -3"),
        (b"index 3", b"place 3"),
        (b"index 3\n", b""),
        (b"extra ", b"extra  "),
        (b"extra ", b"index "),
        (b"\n\n", b"\n"),
        (b"index 3\n", b"index 3\nAAAA\n"),
        (b"index 3\n", b"index 3\n" + b"A" * 43 + b"=\n" * 1 + (b"A" * 43 + b"=\n") * 63),
        (b"index 3\n", b"index 3\n\xff\n"),
        (b"extra ", b"extra " + b"AAAA" * 30_000),
    ],
)
def test_a_malformed_receipt_is_refused(log: PublishedLog, old: bytes, new: bytes) -> None:
    content = log.receipt(3, make_event(3).salt).format()
    with pytest.raises(TransparencyLogError):
        TransparencyProof.parse(content.replace(old, new, 1))


def test_no_error_contains_the_rejected_content() -> None:
    for parse in (SignedNote.parse, Policy.parse, TransparencyProof.parse, Checkpoint.parse):
        with pytest.raises(TransparencyLogError) as caught:
            parse(b"secret\n\nsecret\n")
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


ROW: dict[str, object] = {
    "id": UUID("0A000000-0000-4000-8000-00000000000F"),
    "recorded_at": datetime(2026, 3, 1, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2))),
    "actor_id": None,
    "action": "recording.read",
    "entities": [{"type": "Recording", "ids": ["b", "a"]}],
    "patient_ids": [UUID(int=1)],
    "fields": ["é\u2028"],
    "row_count": 7,
    "byte_count": 2**60,
    "address": ip_address("192.0.2.1"),
    "salt": bytes(16),
    "canonical_version": 1,
}


def test_the_canonical_form_has_every_column_but_salt_and_version() -> None:
    canonical = format_canonical_event(ROW)
    assert canonical.decode() == (
        '{"action":"recording.read","actor_id":null,"address":"192.0.2.1","byte_count":"1152921504606846976",'
        '"entities":[{"ids":["b","a"],"type":"Recording"}],"fields":["é\u2028"],'
        '"id":"0a000000-0000-4000-8000-00000000000f","patient_ids":["00000000-0000-0000-0000-000000000001"],'
        '"recorded_at":"2026-02-28T23:02:03.000004Z","row_count":7}'
    )
    assert compute_entry(bytes(16), canonical) == sha256(bytes(16) + canonical).digest()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ip_address("::ffff:192.0.2.1"), "::ffff:192.0.2.1"),
        (ip_interface("192.0.2.1/24"), "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        (ip_interface("2001:db8::/32"), "2001:db8::"),
    ],
)
def test_an_address_is_the_text_of_its_host(value: object, text: str) -> None:
    assert json.loads(format_canonical_event({"address": value})) == {"address": text}


@pytest.mark.parametrize(
    "row",
    [
        {"address": "nowhere"},
        {"address": 7},
        {"recorded_at": datetime(2026, 3, 1)},  # noqa: DTZ001
        {"fields": {1, 2}},
        {"content": b"bytes"},
    ],
)
def test_another_value_has_no_canonical_form(row: dict[str, object]) -> None:
    with pytest.raises(EventError):
        format_canonical_event(row)
    with pytest.raises(EventError):
        compute_entry(bytes(15), b"{}")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=10,
)


@given(VALUES)
def test_whatever_jsonb_can_hold_has_one_canonical_form(value: object) -> None:
    """A superuser can write any JSON into an event, and the sealer must not stop there."""
    canonical = format_canonical_event({"entities": value})
    assert format_canonical_event({"entities": value}) == canonical
    json.loads(canonical)


def test_times_are_in_utc_with_microseconds() -> None:
    row = {"recorded_at": datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)}
    assert format_canonical_event(row) == b'{"recorded_at":"2026-12-31T23:59:59.000000Z"}'


def test_a_signature_line_is_read_as_it_is_written() -> None:
    key = Ed25519Signer(ORIGIN, Ed25519PrivateKey.generate())
    signature = key.sign(b"text\n")
    assert NoteSignature.parse(signature.format()) == signature
    assert signature.is_by(key.verifier_key)
    assert not signature.is_by(SIGNER.verifier_key)
