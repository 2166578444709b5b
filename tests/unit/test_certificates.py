"""Tests that a certificate has only one canonical form, that it cannot contain forbidden content, and that it is
refused if a single byte was changed.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from app.certificates.model import (
    MAX_INTEGER,
    MAX_OBJECTS,
    Certificate,
    Ground,
    HoldCheck,
    compute_backups_until,
    encode_certificate,
    parse_certificate,
)
from app.certificates.signing import (
    MAX_FILE_BYTES,
    CertificateSigner,
    check,
    encode_public_key_pem,
    read_public_key,
    read_signed,
)
from app.errors import InvalidInput
from tests.unit.certificates import FULL, LARGEST, NOON, OTHER_SIGNER, SEED, SIGNER, certificates

FILE = SIGNER.sign(FULL).file
Spoil = Callable[[dict[str, Any]], object]


def _refusal(file: bytes, signer: CertificateSigner = SIGNER) -> str:
    with pytest.raises(InvalidInput) as refused:
        check(file, signer.public_key)
    return refused.value.reason


def _rewritten(spoil: Spoil, signer: CertificateSigner = SIGNER) -> bytes:
    """Change the content of the signed file, and return the file in canonical form and with a new signature, so
    that only the content is invalid.
    """
    content = json.loads(FILE)
    spoil(content["certificate"])
    signed = b"resguardo-certificate-1\n" + rfc8785.dumps(content["certificate"])
    content["signature"]["value"] = b64encode(signer._key.sign(signed)).decode()
    return rfc8785.dumps(content)


def test_file_is_the_shortest_json_with_sorted_keys() -> None:
    """Every key and value of a certificate is ASCII, so JSON with sorted keys and without spaces is the canonical
    form of RFC 8785.
    """
    sorted_json = json.dumps(json.loads(FILE), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sorted_json.encode("ascii") == FILE


SIZE, NUMBER, POLICY = b'"size_bytes":73400320', b'"number":1', b'"name":"2026-11"'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SIZE, b'"size_bytes": 73400320'),
        (SIZE, b'"size_bytes":073400320'),
        (SIZE, b'"size_bytes":+73400320'),
        (SIZE, b'"size_bytes":73400320.0'),
        (SIZE, b'"size_bytes":7340032e1'),
        (SIZE, b'"size_bytes":73_400_320'),
        (SIZE, b'"size_bytes":-0'),
        (SIZE, b'"size_bytes":0x0'),
        (SIZE, b'"size_bytes":NaN'),
        (SIZE, b'"size_bytes":Infinity'),
        (SIZE, b'"size_bytes":1e400'),
        (SIZE, b'"size_bytes":true'),
        (SIZE, b'"size_bytes":"73400320"'),
        (SIZE, b'"size_bytes":9007199254740992'),
        (SIZE, b'"size_bytes":18446744073709551617'),
        (SIZE, b'"size_bytes":' + b"9" * 5000),
        (SIZE, b'"size_bytes":-1'),
        (SIZE, b'"size_bytes":[]'),
        (SIZE, SIZE + b"," + SIZE),
        (SIZE, b'"size_bytes":1,' + SIZE),
        (SIZE, b'"size_bytes":' + b"[" * 200_000),
        (SIZE, b'"size_bytes":' + b"[" * 5000 + b"]" * 5000),
        (SIZE, b'"size_bytes":' + b'{"a":' * 50_000),
        (SIZE, SIZE + b",/* */"),
        (NUMBER, b'"number":1,"number":1'),
        (NUMBER, b'"number":2,"number":1'),
        (NUMBER, b'"number":true'),
        (NUMBER, b'"number":1.0'),
        (POLICY, b'"name":"\\u0032026-11"'),
        (POLICY, b'"name":"2026-11\\u0000"'),
        (POLICY, b'"name":"2026-11\\n"'),
        (POLICY, b'"name":"\\ud800"'),
        (POLICY, b'"name":"\\ud83d\\ude00"'),
        (POLICY, b'"name":"\xff"'),
        (POLICY, b'"name":"\xed\xa0\x80"'),
        (POLICY, b'"n\\u0061me":"2026-11"'),
        (POLICY, b'"NAME":"2026-11"'),
        (POLICY, b'"name":null'),
        (POLICY, b'"name":["2026-11"]'),
        (b'"algorithm":"Ed25519"', b'"algorithm":"Ed25519","algorithm":"Ed25519"'),
        (b'"algorithm":"Ed25519",', b""),
        (b'"head_status":404', b'"head_status":404.0'),
        (b'"head_status":404', b'"head_status":200,"head_status":404'),
        (b'{"certificate"', b'{"certificate":null,"certificate"'),
        (b'{"certificate"', b'{"":0,"certificate"'),
        (b'{"certificate"', b'{"__class__":"x","certificate"'),
    ],
)
def test_file_with_another_spelling_is_malformed(old: bytes, new: bytes) -> None:
    spelled = FILE.replace(old, new, 1)
    assert spelled != FILE
    assert _refusal(spelled) == "certificate_malformed"


@pytest.mark.parametrize(
    "file",
    [
        b"\xef\xbb\xbf" + FILE,
        FILE + b"\n",
        b"[" + FILE + b"]",
        FILE + FILE,
        FILE.decode().encode("utf-16"),
        FILE.decode().encode("utf-32"),
        json.dumps(json.loads(FILE), indent=1).encode(),
        json.dumps(dict(reversed(json.loads(FILE).items())), separators=(",", ":")).encode(),
        b64encode(FILE),
    ],
)
def test_file_in_another_form_is_malformed(file: bytes) -> None:
    assert _refusal(file) == "certificate_malformed"


@given(st.binary(max_size=40) | st.text('[]{}:,"0123456789eaE.-\\u \n').map(str.encode))
def test_arbitrary_bytes_are_malformed(content: bytes) -> None:
    assert _refusal(content) == "certificate_malformed"


@given(st.data())
def test_any_value_replaced_by_another_kind_of_json_is_refused(data: st.DataObject) -> None:
    content = json.loads(FILE)
    at: Any = content
    while isinstance(at, dict | list) and at:
        keys = list(at) if isinstance(at, dict) else range(len(at))
        holder, key = at, data.draw(st.sampled_from(keys))
        at = holder[key]
    old = at
    json_values: st.SearchStrategy[object] = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]) | st.just({})
    )
    holder[key] = data.draw(json_values.filter(lambda new: (type(new), new) != (type(old), old)))
    changed = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert _refusal(changed).startswith("certificate_")


@given(certificates())
def test_certificate_reads_back_as_it_was_written(certificate: Certificate) -> None:
    assert parse_certificate(encode_certificate(certificate)) == certificate


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.timezones()))  # noqa: DTZ001 - drawn
def test_moment_of_any_clock_is_written_in_utc(moment: datetime) -> None:
    written = json.loads(encode_certificate(replace(FULL, destroyed_at=moment)))["destroyed_at"]
    assert datetime.fromisoformat(written).astimezone(UTC).timestamp() == moment.astimezone(UTC).timestamp()
    assert (written[-1], len(written)) == ("Z", 27)


def test_ambiguous_local_time_is_written_in_utc() -> None:
    twice = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Madrid"))
    assert parse_certificate(encode_certificate(replace(FULL, issued_at=twice))).issued_at == datetime(
        2026, 10, 25, 0, 30, tzinfo=UTC
    )


OBJECT, KEY = FULL.objects[0], FULL.keys[0]


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        (FULL, "reason", "María asked for it"),
        (FULL, "deployment", "Test Practice"),
        (FULL, "recording_id", str(FULL.recording_id)),
        (FULL, "ground", "RETENTION"),
        (FULL, "issued_at", NOON.replace(tzinfo=None)),
        (FULL, "issued_at", NOON.isoformat()),
        (FULL, "issued_at", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
        (FULL, "issued_at", datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))),
        (FULL, "format", "resguardo-certificate-2"),
        (FULL, "number", 0),
        (FULL, "number", True),
        (FULL, "number", 1.0),
        (FULL, "backups_until", NOON),
        (FULL, "objects", list(FULL.objects)),
        (FULL, "objects", (None,)),
        (OBJECT, "kind", "r/d90/maria.mp4"),
        (OBJECT, "size_bytes", -1),
        (OBJECT, "size_bytes", MAX_INTEGER + 1),
        (OBJECT, "sha256", "C3" * 32),
        (OBJECT, "sha256", b"c3" * 32),
        (OBJECT, "head_status", 200),
        (OBJECT, "key_sha256", "r/d90/x"),
        (OBJECT, "etag", "\ud800"),
        (OBJECT, "etag", "٣"),
        (KEY, "root_key_id", "root key"),
        (KEY, "root_key_id", "root\n"),
        (FULL.text_rows_cleared[0], "table", "María"),
    ],
)
def test_certificate_with_a_forbidden_value_cannot_be_built(part: Any, field: str, value: object) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        replace(part, **{field: value})
    assert "María" not in str(refused.value)


def test_certificate_with_too_many_objects_keys_or_tables_cannot_be_built() -> None:
    for name, count in (("objects", MAX_OBJECTS), ("keys", 100), ("text_rows_cleared", 100)):
        replace(FULL, **{name: getattr(FULL, name)[:1] * count})
        with pytest.raises(ValueError, match="at most"):
            replace(FULL, **{name: getattr(FULL, name)[:1] * (count + 1)})


def test_largest_certificate_checks() -> None:
    file = SIGNER.sign(LARGEST).file
    assert MAX_FILE_BYTES / 2 < len(file) < MAX_FILE_BYTES
    assert check(file, SIGNER.public_key) == LARGEST


def test_contradictory_certificate_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="at most 0"):
        HoldCheck(NOON, (FULL.recording_id,))
    with pytest.raises(ValueError, match="term"):
        replace(FULL, policy=None)
    with pytest.raises(ValueError, match="term"):
        replace(FULL, requested_at=NOON)
    with pytest.raises(ValueError, match="request"):
        replace(FULL, ground=Ground.REQUEST)
    with pytest.raises(ValueError, match="first"):
        replace(FULL, repeats="f6" * 32)


@pytest.mark.parametrize(
    ("at", "days", "day"),
    [
        (datetime(2026, 11, 21, 23, 59, tzinfo=UTC), 35, date(2026, 12, 26)),
        (datetime(2026, 11, 21, 23, 59, tzinfo=UTC), 0, date(2026, 11, 21)),
        (datetime(2026, 11, 21, 21, 0, tzinfo=ZoneInfo("America/Bogota")), 1, date(2026, 11, 23)),
    ],
)
def test_last_backup_ages_out_as_many_days_later(at: datetime, days: int, day: date) -> None:
    assert compute_backups_until(at, days) == day


def test_signed_file_checks_with_its_key_alone() -> None:
    assert check(FILE, SIGNER.public_key) == FULL
    assert _refusal(FILE, OTHER_SIGNER) == "certificate_other_key"


@given(certificates())
def test_every_certificate_that_is_signed_checks(certificate: Certificate) -> None:
    signed = SIGNER.sign(certificate)
    assert check(signed.file, SIGNER.public_key) == certificate
    assert SIGNER.sign(certificate).file == signed.file
    assert read_signed(signed.file) == signed
    assert signed.sha256 == hashlib.sha256(signed.file).hexdigest()


@pytest.mark.parametrize("change", [0x01, 0x0F, 0x20, 0x80, 0xFF])
def test_file_altered_in_any_one_byte_is_refused(change: int) -> None:
    for place in range(len(FILE)):
        altered = bytearray(FILE)
        altered[place] ^= change
        assert _refusal(bytes(altered)).startswith("certificate_")


def test_signature_altered_in_any_way_in_its_last_digits_is_refused() -> None:
    end = FILE.rindex(b"==")
    for place in (end - 1, end, end + 1):
        for byte in set(range(256)) - {FILE[place]}:
            assert _refusal(FILE[:place] + bytes([byte]) + FILE[place + 1 :]).startswith("certificate_")


@pytest.mark.parametrize("place", [0, 1, len(FILE) // 2, len(FILE)])
def test_file_with_a_byte_more_or_less_is_refused(place: int) -> None:
    for added in (b" ", b"\n", b"0", b"\0"):
        assert _refusal(FILE[:place] + added + FILE[place:]) in {
            "certificate_malformed",
            "certificate_signature",
        }
    assert _refusal(FILE[: place - 1] + FILE[place:]) in {"certificate_malformed", "certificate_signature"}


def test_certificate_of_another_with_its_own_signature_is_refused() -> None:
    other = json.loads(SIGNER.sign(replace(FULL, number=2)).file)
    mixed = {"certificate": json.loads(FILE)["certificate"], "signature": other["signature"]}
    assert _refusal(rfc8785.dumps(mixed)) == "certificate_signature"


def test_signature_of_another_under_our_key_id_is_refused() -> None:
    content = json.loads(OTHER_SIGNER.sign(FULL).file)
    content["signature"]["key_id"] = SIGNER.key_id
    assert _refusal(rfc8785.dumps(content)) == "certificate_signature"


def test_signature_over_the_bare_certificate_is_refused() -> None:
    content = json.loads(FILE)
    content["signature"]["value"] = b64encode(SIGNER._key.sign(encode_certificate(FULL))).decode()
    assert _refusal(rfc8785.dumps(content)) == "certificate_signature"


def _set(path: str, value: object) -> Spoil:
    def spoil(certificate: dict[str, Any]) -> None:
        *way, last = path.split(".")
        at: Any = certificate
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        at[last] = value

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _set("note", "x"),
        lambda certificate: certificate.pop("reason"),
        lambda certificate: certificate["hold_check"].pop("holds"),
        _set("objects.0.note", None),
        _set("hold_check.holds", [str(FULL.recording_id)]),
        _set("hold_check.holds", None),
        _set("objects.0.head_status", 200),
        _set("objects.0.head_status", "404"),
        _set("objects.0.size_bytes", "1"),
        _set("objects", {}),
        _set("objects", [None]),
        _set("keys", "none"),
        _set("policy", None),
        _set("policy", []),
        _set("number", 0),
        _set("ground", "WHIM"),
        _set("ground", 1),
        _set("recording_id", str(FULL.recording_id).upper()),
        _set("recording_id", FULL.recording_id.hex),
        _set("destroyed_at", "2026-11-21T12:00:00Z"),
        _set("destroyed_at", "2026-11-21T12:00:00.000000+00:00"),
        _set("destroyed_at", "2026-02-30T12:00:00.000000Z"),
        _set("destroyed_at", "٢٠٢٦-11-21T12:00:00.000000Z"),
        _set("backups_until", "20261226"),
        _set("backups_until", "2026-12-26T00:00:00.000000Z"),
        _set("format", "resguardo-certificate-2"),
        _set("deployment", "test-practice\n"),
        _set("reason", "María"),
    ],
)
def test_signed_file_with_a_forbidden_value_is_malformed(spoil: Spoil) -> None:
    assert _refusal(_rewritten(spoil)) == "certificate_malformed"


def test_rewriting_without_a_change_gives_the_same_file() -> None:
    assert _rewritten(lambda certificate: None) == FILE


@pytest.mark.parametrize("algorithm", ["ed25519", "none", "", "Ed25519ph", None])
def test_other_algorithms_are_refused(algorithm: str | None) -> None:
    content = json.loads(FILE)
    content["signature"]["algorithm"] = algorithm
    assert _refusal(rfc8785.dumps(content)) == "certificate_malformed"


@pytest.mark.parametrize(
    "file",
    [b"", b"{}", b"[]", b"null", b'"certificate"', b"%PDF-1.4", b"\xff\xfe"],
)
def test_file_of_another_kind_is_malformed(file: bytes) -> None:
    assert _refusal(file) == "certificate_malformed"


def test_file_above_the_size_limit_is_refused() -> None:
    assert _refusal(FILE + b"\0" * MAX_FILE_BYTES) == "certificate_too_large"


def test_public_key_is_read_as_pem_and_as_base64() -> None:
    raw = SIGNER.public_key.public_bytes_raw()
    for content in (
        encode_public_key_pem(SIGNER.public_key).encode(),
        b64encode(raw),
        b64encode(raw) + b"\n",
    ):
        assert read_public_key(content) == SIGNER.public_key


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"word",
        b64encode(b"short"),
        SEED.encode() + SEED.encode(),
        b"-----BEGIN PUBLIC KEY-----\n",
        generate_private_key(SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        b"x" * 100_000,
        b"\xff" * 32,
    ],
)
def test_file_without_an_ed25519_public_key_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="certificate_public_key"):
        read_public_key(content)


@pytest.mark.parametrize(
    "seed", ["", "word", b64encode(b"short").decode(), b64encode(bytes(33)).decode(), "wörd"]
)
def test_seed_of_another_length_is_refused_and_not_in_the_error(seed: str) -> None:
    with pytest.raises(ValueError, match=r"^not 32 bytes in base64$") as refused:
        CertificateSigner.from_seed(seed)
    assert refused.value.__cause__ is None


def test_seed_is_not_in_what_the_signer_shows() -> None:
    shown = f"{SIGNER!r} {SIGNER.sign(FULL)!r}"
    assert SEED not in shown
    assert b64decode(SEED).hex() not in shown
