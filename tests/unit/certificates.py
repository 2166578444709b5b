"""Certificates for tests: one certificate in which every field is set, and a Hypothesis strategy that generates
certificates.
"""

from base64 import b64encode
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from app.certificates.model import (
    MAX_INTEGER,
    MAX_OBJECTS,
    AppliedPolicy,
    Certificate,
    ClearedTextRows,
    DestroyedKey,
    DestroyedObject,
    Ground,
    HoldCheck,
    SurvivingNote,
    compute_backups_until,
)
from app.certificates.signing import CertificateSigner

SEED = b64encode(b"the seed of the tests' signer...").decode()
SIGNER = CertificateSigner.from_seed(SEED)
OTHER_SIGNER = CertificateSigner.from_seed(b64encode(bytes(range(32))).decode())
NOON = datetime(2026, 11, 21, 12, 0, 0, 120, tzinfo=UTC)

FULL = Certificate(
    deployment="test-practice",
    recording_id=UUID("4f1f8f1e-37a5-4d0c-9a51-6f8a4f2b7c11"),
    consultation_id=UUID("90cde0f1-2d1b-4f64-8a3c-1b1a2f7e5d22"),
    ground=Ground.RETENTION,
    reason=None,
    requested_at=None,
    policy=AppliedPolicy("2026-11", "a1" * 32, 90, NOON - timedelta(days=1)),
    hold_check=HoldCheck(NOON),
    objects=(
        DestroyedObject(
            "b2" * 32, "video.mp4", 73_400_320, "c3" * 32, "9b2cf535f27731c974343645a3985328-5", NOON, NOON
        ),
        DestroyedObject("d4" * 32, "speakers.ogg", None, None, None, NOON, NOON),
    ),
    keys=(DestroyedKey("recording", "e5" * 32, "root-2026", NOON),),
    text_rows_cleared=(ClearedTextRows("resguardo.transcripts", 214),),
    destroyed_at=NOON,
    backups_until=compute_backups_until(NOON, 35),
    issued_at=NOON + timedelta(seconds=2),
    surviving_notes=(
        SurvivingNote(UUID("5a6b7c8d-1111-4222-8333-944455556666"), ("f7" * 32, "f8" * 32), 21, NOON),
    ),
)

LARGEST = replace(
    FULL,
    objects=(DestroyedObject("b2" * 32, "v" * 64, MAX_INTEGER, "c3" * 32, "e" * 128, NOON, NOON),)
    * MAX_OBJECTS,
    keys=(DestroyedKey("k" * 64, "e5" * 32, "r" * 32, NOON),) * 100,
    text_rows_cleared=(ClearedTextRows(f"{'s' * 64}.{'t' * 64}", MAX_INTEGER),) * 100,
    surviving_notes=(SurvivingNote(UUID(int=1), ("f7" * 32,) * 100, MAX_INTEGER, NOON),) * 10,
)

_moments = st.datetimes(timezones=st.just(UTC))
_digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
_slugs = st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True)
_counts = st.integers(0, MAX_INTEGER)


def _maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


_policies = st.builds(
    AppliedPolicy,
    st.from_regex(r"[0-9A-Za-z][0-9A-Za-z ._-]{0,63}", fullmatch=True),
    _digests,
    _maybe(st.integers(0, 36_525)),
    _maybe(_moments),
)
_objects = st.builds(
    DestroyedObject,
    _digests,
    st.sampled_from(["video.mp4", "speakers.ogg", "video-2.mp4", "import.mp4", "export.zip"]),
    _maybe(_counts),
    _maybe(_digests),
    _maybe(st.from_regex(r"[0-9a-f]{32}(-[0-9]{1,4})?", fullmatch=True)),
    _moments,
    _moments,
)
_keys = st.builds(DestroyedKey, _slugs, _digests, st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), _moments)
_notes = st.builds(
    SurvivingNote,
    st.uuids(),
    st.lists(_digests, min_size=1, max_size=2).map(tuple),
    _counts,
    _maybe(_moments),
)
_cleared = st.builds(ClearedTextRows, _slugs, _counts)


@st.composite
def certificates(draw: st.DrawFn) -> Certificate:
    """Return any valid certificate."""
    ground = draw(st.sampled_from(Ground))
    number = draw(st.integers(1, 1_000_000))
    is_of_term = ground is Ground.RETENTION
    is_of_note = draw(st.booleans())
    return Certificate(
        deployment=draw(st.from_regex(r"[a-z][a-z0-9-]{1,38}[a-z0-9]", fullmatch=True)),
        recording_id=draw(st.uuids()),
        consultation_id=draw(st.uuids()),
        ground=ground,
        reason=draw(st.none() | _slugs),
        requested_at=None if is_of_term else draw(_moments),
        policy=draw(_policies if is_of_term else st.none() | _policies),
        hold_check=HoldCheck(draw(_moments)),
        objects=() if is_of_note else tuple(draw(st.lists(_objects, max_size=3))),
        keys=tuple(draw(st.lists(_keys, max_size=2))),
        text_rows_cleared=tuple(draw(st.lists(_cleared, max_size=2))),
        destroyed_at=draw(_moments),
        backups_until=draw(st.dates(min_value=date(1, 1, 1))),
        issued_at=draw(_moments),
        number=number,
        repeats=draw(st.none() | _digests) if number > 1 else None,
        signed_note_id=draw(st.uuids()) if is_of_note else None,
        surviving_notes=() if is_of_note else tuple(draw(st.lists(_notes, max_size=2))),
    )
