"""The API refuses every kind of invalid Supabase token with the matching reason, and limits how often it fetches
the JWKS.
"""

import asyncio
import base64
import dataclasses
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.errors import AppError, Unauthenticated, UpstreamFailed
from app.identity import jwks
from app.identity.jwks import FETCH_SECONDS, MAX_DOCUMENT_BYTES, parse_keys
from app.identity.tokens import MAX_TOKEN_BYTES, Amr, Principal, TokenVerifier
from app.postgres.database import Asker
from tests.token_clock import token_clock

pytestmark = pytest.mark.anyio

ISSUER = "https://project.supabase.test/auth/v1"
JWKS_URL = f"{ISSUER}/.well-known/jwks.json"
NOW = 1_795_250_000
USER = "5b6c1b56-3f5f-4f0e-9a3b-3a1d2f4c5e6f"
SESSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=3072)

Json = dict[str, Any]


def ec_jwk(key: ec.EllipticCurvePrivateKey = EC_KEY, kid: str = "ec-1", **more: object) -> Json:
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "ES256", **more}


def rsa_jwk(key: rsa.RSAPrivateKey = RSA_KEY, kid: str = "rsa-1", **more: object) -> Json:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "RS256", **more}


class Project:
    """The JWKS endpoint of a Supabase project, which counts its requests, and a clock that a test can move."""

    def __init__(self) -> None:
        self.keys: list[Any] = [ec_jwk(), rsa_jwk()]
        self.respond: Callable[[], httpx.Response] = lambda: httpx.Response(200, json={"keys": self.keys})
        self.fetches = 0
        self.seconds = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.verifier = TokenVerifier(
            issuer=ISSUER,
            jwks_url=JWKS_URL,
            http=self.http,
            monotonic=lambda: self.seconds,
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == JWKS_URL
        self.fetches += 1
        await self.gate.wait()
        return self.respond()

    async def settled(self) -> None:
        """Wait until the JWKS fetch that runs in the background has ended."""
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def project() -> Any:
    project = Project()
    with token_clock(lambda: NOW + project.seconds):
        yield project
    await project.verifier.aclose()
    await project.http.aclose()


def claims(**changes: object) -> Json:
    """Return the token claims that Supabase Auth issues after a sign-in with a password and a TOTP code. None
    removes a claim.
    """
    issued = {
        "aud": "authenticated",
        "exp": NOW + 3600,
        "iat": NOW,
        "iss": ISSUER,
        "sub": USER,
        "email": "doctor@example.test",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {},
        "role": "authenticated",
        "aal": "aal2",
        "amr": [{"method": "totp", "timestamp": NOW}, {"method": "password", "timestamp": NOW - 20}],
        "session_id": SESSION,
        "is_anonymous": False,
    }
    return {name: value for name, value in (issued | changes).items() if value is not None}


def sign(payload: Json, *, key: Any = EC_KEY, alg: str = "ES256", **header: Any) -> str:
    return jwt.encode(payload, key, algorithm=alg, headers={"kid": "ec-1", **header})


def sign_bytes(payload: bytes) -> str:
    return jwt.PyJWS().encode(payload, EC_KEY, algorithm="ES256", headers={"kid": "ec-1"})


def segment(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def assemble(header: object, payload: object, signature: bytes = b"x" * 64) -> str:
    return ".".join([segment(header), segment(payload), segment(signature)])


def forged_with_public_key(public: bytes) -> str:
    """Return a forged token, signed with HS256 and with the bytes of the public key as the secret. This function
    signs the forged token without PyJWT, because PyJWT refuses to use a public key as an HMAC secret.
    """
    head_and_body = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': 'ec-1'})}.{segment(claims())}"
    return f"{head_and_body}.{segment(hmac.new(public, head_and_body.encode(), hashlib.sha256).digest())}"


async def refusal(project: Project, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await project.verifier.verify(token)
    return caught.value.reason


async def test_token_becomes_principal_when_valid(project: Project) -> None:
    principal = await project.verifier.verify(sign(claims()))
    assert principal == Principal(
        user_id=UUID(USER),
        session_id=UUID(SESSION),
        aal="aal2",
        amr=(
            Amr("totp", datetime.fromtimestamp(NOW, UTC)),
            Amr("password", datetime.fromtimestamp(NOW - 20, UTC)),
        ),
        expires_at=datetime.fromtimestamp(NOW + 3600, UTC),
    )
    assert principal.claims() == {
        "sub": USER,
        "session_id": SESSION,
        "role": "authenticated",
        "aal": "aal2",
        "amr": [{"method": "totp", "timestamp": NOW}, {"method": "password", "timestamp": NOW - 20}],
        "exp": NOW + 3600,
    }
    json.dumps(principal.claims())
    with pytest.raises(dataclasses.FrozenInstanceError):
        principal.aal = "aal1"  # type: ignore[misc]


async def test_token_accepted_when_signed_with_rsa(project: Project) -> None:
    principal = await project.verifier.verify(sign(claims(), key=RSA_KEY, alg="RS256", kid="rsa-1"))
    assert principal.user_id == UUID(USER)


@pytest.mark.parametrize(
    ("changes", "aal", "methods"),
    [
        ({"aal": None}, "aal1", ["totp", "password"]),
        ({"aal": "aal1"}, "aal1", ["totp", "password"]),
        ({"amr": None}, "aal2", []),
        ({"amr": ["password", {"method": "totp", "timestamp": NOW}]}, "aal2", ["totp"]),
        ({"aud": ["authenticated"]}, "aal2", ["totp", "password"]),
        ({"is_anonymous": None}, "aal2", ["totp", "password"]),
        ({"exp": NOW - 4}, "aal2", ["totp", "password"]),
        ({"nbf": NOW + 30, "iat": NOW + 30}, "aal2", ["totp", "password"]),
        ({"iat": NOW + 29.5}, "aal2", ["totp", "password"]),
        ({"sub": USER.upper()}, "aal2", ["totp", "password"]),
    ],
)
async def test_token_accepted_when_a_lawful_variant(
    project: Project, changes: Json, aal: str, methods: list[str]
) -> None:
    principal = await project.verifier.verify(sign(claims(**changes)))
    assert (principal.aal, [entry.method for entry in principal.amr]) == (aal, methods)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": NOW - 6}, "token_expired"),
        ({"exp": NOW - 86400}, "token_expired"),
        ({"exp": None}, "token_claims"),
        ({"exp": "tomorrow"}, "token_claims"),
        ({"exp": True}, "token_claims"),
        ({"exp": str(NOW + 60)}, "token_claims"),
        ({"exp": 10**400}, "token_claims"),
        ({"exp": -1}, "token_claims"),
        ({"exp": [NOW + 60]}, "token_claims"),
        ({"exp": NOW - 5.5}, "token_expired"),
        ({"exp": 1e300}, "token_claims"),
        ({"exp": float("inf")}, "token_claims"),
        ({"exp": float("nan")}, "token_claims"),
        ({"iat": None}, "token_claims"),
        ({"iat": True}, "token_claims"),
        ({"iat": str(NOW)}, "token_claims"),
        ({"nbf": False}, "token_claims"),
        ({"iat": NOW + 31}, "token_clock"),
        ({"nbf": NOW + 31}, "token_clock"),
        ({"iat": NOW + 86_400, "exp": NOW + 90_000}, "token_clock"),
        ({"nbf": "now"}, "token_claims"),
        ({"aud": None}, "token_audience"),
        ({"aud": "anon"}, "token_audience"),
        ({"aud": ["authenticated", "another"]}, "token_audience"),
        ({"aud": ["authenticated", "authenticated"]}, "token_audience"),
        ({"aud": ["authenticated", 7]}, "token_audience"),
        ({"aud": {"authenticated": 1}}, "token_audience"),
        ({"aud": []}, "token_audience"),
        ({"aud": ""}, "token_audience"),
        ({"aud": 7}, "token_audience"),
        ({"iss": None}, "token_issuer"),
        ({"iss": "https://other.supabase.test/auth/v1"}, "token_issuer"),
        ({"iss": f"{ISSUER}/"}, "token_issuer"),
        ({"iss": [ISSUER]}, "token_issuer"),
        ({"iss": 7}, "token_issuer"),
        ({"sub": None}, "token_claims"),
        ({"sub": ""}, "token_claims"),
        ({"sub": "doctor"}, "token_claims"),
        ({"sub": f"{{{USER}}}"}, "token_claims"),
        ({"sub": 7}, "token_claims"),
        ({"session_id": None}, "token_claims"),
        ({"session_id": "current"}, "token_claims"),
        ({"role": None}, "token_role"),
        ({"role": "service_role"}, "token_role"),
        ({"role": "anon"}, "token_role"),
        ({"role": ["authenticated"]}, "token_role"),
        ({"is_anonymous": True}, "token_anonymous"),
        ({"is_anonymous": "false"}, "token_anonymous"),
        ({"aal": "aal3"}, "token_claims"),
        ({"aal": 2}, "token_claims"),
        ({"amr": "totp"}, "token_claims"),
        ({"amr": [{"method": "totp"}]}, "token_claims"),
        ({"amr": [{"method": "totp", "timestamp": -1}]}, "token_claims"),
        ({"amr": [{"timestamp": NOW}]}, "token_claims"),
        ({"amr": [7]}, "token_claims"),
        ({"amr": ["password"] * 33}, "token_claims"),
    ],
)
async def test_token_refused_when_a_claim_is_wrong(project: Project, changes: Json, reason: str) -> None:
    payload = {k: v for k, v in (claims() | changes).items() if v is not None}
    token = jwt.PyJWS().encode(
        json.dumps(payload).encode(), EC_KEY, algorithm="ES256", headers={"kid": "ec-1"}
    )
    assert await refusal(project, token) == reason


@pytest.mark.parametrize("name", ["client_id", "scope"])
@pytest.mark.parametrize("value", ["email", "openid email profile", "", None, False, 0, [], {}])
async def test_token_refused_when_delegated_to_a_client(project: Project, name: str, value: object) -> None:
    payload = json.dumps(claims() | {name: value}).encode()
    assert await refusal(project, sign_bytes(payload)) == "session_delegated"


@pytest.mark.parametrize(
    ("configured", "issued", "is_accepted"),
    [
        ("https://auth.practice.test", "https://auth.practice.test", True),
        ("https://auth.practice.test", ISSUER, False),
        ("https://auth.practice.test", "https://auth.practice.test/", False),
        ("https://auth.practice.test", None, False),
        (None, None, True),
        (None, ISSUER, False),
        (None, "", False),
    ],
)
async def test_issuer_is_compared_with_the_configured_one(
    project: Project, configured: str | None, issued: str | None, is_accepted: bool
) -> None:
    verifier = TokenVerifier(issuer=configured, jwks_url=JWKS_URL, http=project.http, monotonic=lambda: 0)
    token = sign_bytes(json.dumps(claims(iss=issued)).encode())
    if is_accepted:
        assert (await verifier.verify(token)).user_id == UUID(USER)
        return
    with pytest.raises(Unauthenticated, match="token_issuer"):
        await verifier.verify(token)


@pytest.mark.parametrize(
    ("mac", "kept"),
    [("1.ab12", "1.ab12"), ("", None), (None, None), (7, None), (["x"], None), ("m" * 201, None)],
)
async def test_session_mac_reaches_the_database_when_it_is_text(
    project: Project, mac: object, kept: str | None
) -> None:
    principal = await project.verifier.verify(
        sign_bytes(json.dumps(claims() | {"resguardo_mac": mac}).encode())
    )
    assert (principal.mac, principal.claims().get("resguardo_mac")) == (kept, kept)
    assert ("resguardo_mac" in principal.claims()) == (kept is not None)


async def test_expiry_is_told_in_whole_seconds_as_the_mac_covers_it(project: Project) -> None:
    principal = await project.verifier.verify(sign(claims(exp=NOW + 10.75)))
    assert principal.claims()["exp"] == NOW + 10


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "token_missing"),
        (" ", "token_malformed"),
        ("null", "token_malformed"),
        ("a.b", "token_malformed"),
        ("a.b.c.d", "token_malformed"),
        ("....", "token_malformed"),
        ("\N{SNOWMAN}.e30.e30", "token_malformed"),
        (assemble([], claims()), "token_malformed"),
        (assemble(b"\xff\xfe", claims()), "token_malformed"),
        (assemble(b"[" * 3000, claims()), "token_malformed"),
        (assemble({"alg": "none", "kid": "ec-1"}, claims(), b""), "token_algorithm"),
        (assemble({"alg": "None", "kid": "ec-1"}, claims(), b""), "token_algorithm"),
        (assemble({"kid": "ec-1"}, claims()), "token_algorithm"),
        (assemble({"alg": ["ES256"], "kid": "ec-1"}, claims()), "token_algorithm"),
        (assemble({"alg": "ES384", "kid": "ec-1"}, claims()), "token_algorithm"),
        (assemble({"alg": "PS256", "kid": "rsa-1"}, claims()), "token_algorithm"),
        (assemble({"alg": "EdDSA", "kid": "ec-1"}, claims()), "token_algorithm"),
        (assemble({"alg": "RS256", "kid": "ec-1"}, claims()), "token_algorithm"),
        (assemble({"alg": "ES256", "kid": "rsa-1"}, claims()), "token_algorithm"),
        (assemble({"alg": "ES256"}, claims()), "token_key_unknown"),
        (assemble({"alg": "ES256", "kid": ""}, claims()), "token_key_unknown"),
        (assemble({"alg": "ES256", "kid": "k" * 300}, claims()), "token_key_unknown"),
        (assemble({"alg": "ES256", "kid": 7}, claims()), "token_malformed"),
        (assemble({"alg": "ES256", "kid": "ec-2"}, claims()), "token_key_unknown"),
        (assemble({"alg": "ES256", "kid": "ec-1"}, claims()), "token_signature"),
        (assemble({"alg": "ES256", "kid": "ec-1"}, claims(), b""), "token_signature"),
        (assemble({"alg": "ES256", "kid": "ec-1", "crit": ["exp"], "exp": 1}, claims()), "token_malformed"),
        (
            assemble({"alg": "ES256", "kid": "ec-1", "jku": "https://evil.test/jwks"}, claims()),
            "token_malformed",
        ),
        (
            assemble({"alg": "ES256", "kid": "ec-1", "x5u": "https://evil.test/x"}, claims()),
            "token_malformed",
        ),
        (assemble({"alg": "ES256", "kid": "ec-1", "jwk": ec_jwk(OTHER_EC_KEY)}, claims()), "token_malformed"),
    ],
)
async def test_token_refused_when_not_ours(project: Project, token: str, reason: str) -> None:
    assert await refusal(project, token) == reason


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"jku": "https://evil.test/jwks"},
        {"x5u": "https://evil.test/x"},
        {"x5c": ["evil"]},
        {"jwk": ec_jwk(OTHER_EC_KEY)},
    ],
)
async def test_token_refused_when_its_header_brings_keys_or_demands(project: Project, header: Json) -> None:
    assert await refusal(project, sign(claims(), **header)) == "token_malformed"
    assert await refusal(project, sign(claims(), key=OTHER_EC_KEY, **header)) == "token_malformed"


@pytest.mark.parametrize("payload", [b"", b"7", b"[]", b"\xff", b"{", b"[" * 3000])
async def test_token_refused_when_payload_is_no_object(project: Project, payload: bytes) -> None:
    assert await refusal(project, sign_bytes(payload)) == "token_malformed"


async def test_last_of_two_equal_claims_counts(project: Project) -> None:
    payload = json.dumps(claims())[:-1].encode()
    assert await refusal(project, sign_bytes(payload + b', "role": "anon"}')) == "token_role"
    assert await refusal(project, sign_bytes(payload + b', "exp": true}')) == "token_claims"
    assert (await project.verifier.verify(sign_bytes(payload + b', "aud": "authenticated"}'))).aal == "aal2"


async def test_claims_that_the_verifier_does_not_know_are_ignored(project: Project) -> None:
    assert (await project.verifier.verify(sign(claims(jti=7, azp=[])))).user_id == UUID(USER)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
async def test_token_refused_when_hs256_forged_with_public_key(project: Project, encoding: Encoding) -> None:
    public = EC_KEY.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    assert await refusal(project, forged_with_public_key(public)) == "token_algorithm"


async def test_token_refused_when_signed_by_another_key(project: Project) -> None:
    assert await refusal(project, sign(claims(), key=OTHER_EC_KEY)) == "token_signature"


async def test_token_refused_when_payload_was_changed(project: Project) -> None:
    header, _, signature = sign(claims()).split(".")
    forged = segment(claims(sub="11111111-1111-4111-8111-111111111111"))
    assert await refusal(project, f"{header}.{forged}.{signature}") == "token_signature"


async def test_token_just_under_the_cap_is_read(project: Project) -> None:
    room = MAX_TOKEN_BYTES - len(sign(claims(user_metadata={"note": ""}))) - 8
    token = sign(claims(user_metadata={"note": "n" * (room * 3 // 4)}))
    assert MAX_TOKEN_BYTES - 64 < len(token) <= MAX_TOKEN_BYTES
    assert (await project.verifier.verify(token)).user_id == UUID(USER)


async def test_token_refused_when_over_the_cap(project: Project) -> None:
    token = sign(claims(user_metadata={"note": "n" * MAX_TOKEN_BYTES}))
    assert await refusal(project, token) == "token_malformed"


async def test_principal_prints_neither_the_session_nor_its_mac(project: Project) -> None:
    principal = await project.verifier.verify(sign(claims(resguardo_mac="1.ab12")))
    told = repr(principal) + repr(Asker(principal.claims(), UUID(USER), None))
    assert SESSION not in told
    assert "1.ab12" not in told


async def test_error_holds_no_part_of_the_token(project: Project) -> None:
    token = sign(claims(exp=NOW - 60))
    with pytest.raises(AppError) as caught:
        await project.verifier.verify(token)
    told = repr(caught.value) + str(caught.value.detail) + repr(caught.value.__cause__)
    assert not any(part in told for part in token.split("."))


@pytest.mark.parametrize("token", [assemble({"alg": "HS256", "kid": "zz"}, claims()), "a.b", ""])
async def test_jwks_not_fetched_when_header_already_refuses(project: Project, token: str) -> None:
    await refusal(project, token)
    assert project.fetches == 0


async def test_jwks_fetched_once_when_fifty_cold_calls_come_together(project: Project) -> None:
    token = sign(claims())
    project.gate.clear()
    calls = [asyncio.create_task(project.verifier.verify(token)) for _ in range(50)]
    await project.settled()
    calls[0].cancel()
    project.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, Principal) for result in results[1:])
    assert project.fetches == 1


async def test_jwks_fetched_once_when_unknown_kids_flood(project: Project) -> None:
    await project.verifier.verify(sign(claims()))
    project.seconds = 31
    unknown = [sign(claims(), key=OTHER_EC_KEY, kid=f"unknown-{number}") for number in range(200)]
    reasons = await asyncio.gather(*(refusal(project, token) for token in unknown))
    for token in unknown[:20]:
        assert await refusal(project, token) == "token_key_unknown"
    assert set(reasons) == {"token_key_unknown"}
    assert project.fetches == 2


async def test_only_so_many_tokens_wait_for_a_fetch_and_a_known_key_waits_for_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "MAX_WAITING", 3)
    known = sign(claims())
    await project.verifier.verify(known)
    project.seconds = 31
    project.gate.clear()
    unknown = [sign(claims(), key=OTHER_EC_KEY, kid=f"unknown-{number}") for number in range(5)]
    calls = [asyncio.create_task(project.verifier.verify(token)) for token in unknown]
    await project.settled()
    assert [type(call.exception()) for call in calls[3:]] == [UpstreamFailed, UpstreamFailed]
    assert isinstance(await project.verifier.verify(known), Principal)
    project.gate.set()
    results = await asyncio.gather(*calls[:3], return_exceptions=True)
    assert {type(result) for result in results} == {Unauthenticated}


async def test_jwks_not_fetched_for_unknown_kid_when_just_fetched(project: Project) -> None:
    await project.verifier.verify(sign(claims()))
    project.seconds = 1.9
    assert await refusal(project, sign(claims(), kid="unknown")) == "token_key_unknown"
    assert project.fetches == 1


@pytest.mark.parametrize("before", [[ec_jwk()], [rsa_jwk()], [ec_jwk(), rsa_jwk()]])
@pytest.mark.parametrize(
    ("key", "alg", "published"),
    [
        (OTHER_EC_KEY, "ES256", ec_jwk(OTHER_EC_KEY, "new")),
        (OTHER_RSA_KEY, "RS256", rsa_jwk(OTHER_RSA_KEY, "new")),
    ],
)
async def test_key_found_within_seconds_when_rotated_in(
    project: Project, before: list[Json], key: Any, alg: str, published: Json
) -> None:
    project.keys = before
    old = (
        sign(claims())
        if before[0]["kid"] == "ec-1"
        else sign(claims(), key=RSA_KEY, alg="RS256", kid="rsa-1")
    )
    await project.verifier.verify(old)
    project.keys = [published, *before]
    project.seconds = 2
    rotated = sign(claims(), key=key, alg=alg, kid="new")
    assert (await project.verifier.verify(rotated)).user_id == UUID(USER)
    assert (await project.verifier.verify(old)).user_id == UUID(USER)
    assert project.fetches == 2


async def test_jwks_fetched_every_other_second_at_most_when_unknown_kids_never_stop(project: Project) -> None:
    await project.verifier.verify(sign(claims()))
    for tenth in range(200):
        project.seconds = tenth / 10
        assert await refusal(project, sign(claims(), kid=f"unknown-{tenth}")) == "token_key_unknown"
    assert project.fetches <= 1 + 20 / 2
    project.keys = [rsa_jwk(OTHER_RSA_KEY, "new"), ec_jwk()]
    project.seconds = 22
    new = sign(claims(), key=OTHER_RSA_KEY, alg="RS256", kid="new")
    assert (await project.verifier.verify(new)).user_id == UUID(USER)


async def test_key_refused_when_rotated_out(project: Project) -> None:
    await project.verifier.verify(sign(claims()))
    project.keys = [ec_jwk(OTHER_EC_KEY, "ec-2")]
    project.seconds = 601
    await project.verifier.verify(sign(claims()))
    await project.settled()
    assert await refusal(project, sign(claims())) == "token_key_unknown"
    assert project.fetches == 2


async def test_old_keys_serve_when_refresh_hangs_or_fails(project: Project) -> None:
    await project.verifier.verify(sign(claims()))
    project.respond = lambda: httpx.Response(503)
    for seconds in (601, 602, 640, 3599):
        project.seconds = seconds
        assert (await project.verifier.verify(sign(claims()))).user_id == UUID(USER)
        await project.settled()
    assert project.fetches == 4
    project.seconds = 3601 + 30
    with pytest.raises(UpstreamFailed) as caught:
        await project.verifier.verify(sign(claims()))
    assert caught.value.reason == "jwks_unavailable"


def too_large() -> httpx.Response:
    return httpx.Response(200, json={"keys": [ec_jwk()], "padding": "p" * MAX_DOCUMENT_BYTES})


def broken_connection() -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.parametrize(
    "respond",
    [
        lambda: httpx.Response(500, json={"keys": [ec_jwk()]}),
        lambda: httpx.Response(302, headers={"location": "https://evil.test/jwks.json"}),
        lambda: httpx.Response(200, text="<html>"),
        lambda: httpx.Response(200, json=[]),
        lambda: httpx.Response(200, json={"keys": {}}),
        lambda: httpx.Response(200, text="[" * 5000),
        too_large,
        broken_connection,
    ],
)
async def test_upstream_failed_when_no_key_set_can_be_had(
    project: Project, respond: Callable[[], httpx.Response]
) -> None:
    project.respond = respond
    for _ in range(3):
        with pytest.raises(UpstreamFailed) as caught:
            await project.verifier.verify(sign(claims()))
        assert caught.value.reason == "jwks_unavailable"
    assert project.fetches == 1
    project.respond = lambda: httpx.Response(200, json={"keys": project.keys})
    project.seconds = 2
    assert (await project.verifier.verify(sign(claims()))).user_id == UUID(USER)


async def test_upstream_failed_when_the_key_server_hangs(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FETCH_SECONDS == 5
    monkeypatch.setattr("app.identity.jwks.FETCH_SECONDS", 0.05)
    project.gate.clear()
    began = time.monotonic()
    with pytest.raises(UpstreamFailed):
        await project.verifier.verify(sign(claims()))
    assert time.monotonic() - began < FETCH_SECONDS


def odd_keys() -> Iterator[object]:
    okp = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)
    yield {**okp, "kid": "okp", "alg": "EdDSA"}
    yield {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"}
    yield {**ec_jwk(), "kid": "p384", "crv": "P-384"}
    yield {**ec_jwk(), "kid": "off-curve", "y": ec_jwk()["x"]}
    yield {**ec_jwk(), "kid": "no-y", "y": None}
    yield {**ec_jwk(), "kid": "encryption", "use": "enc"}
    yield {**ec_jwk(), "kid": "signs-only", "key_ops": ["sign"]}
    yield {**ec_jwk(), "kid": "wrong-alg", "alg": "RS256"}
    yield {**rsa_jwk(), "kid": "pss", "alg": "PS256"}
    yield rsa_jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024), "short")  # noqa: S505 - the test
    yield {**rsa_jwk(), "kid": "bad-n", "n": "!!"}
    yield {**rsa_jwk(), "kid": "no-n", "n": ""}
    yield {**rsa_jwk(), "kid": "even-n", "n": segment(b"\xff" * 255 + b"\xfe")}
    yield {**rsa_jwk(), "kid": "huge-n", "n": segment(b"\xff" * 20_000)}
    yield {**rsa_jwk(), "kid": "even-e", "e": segment(b"\x02")}
    yield {**rsa_jwk(), "kid": "e-of-one", "e": segment(b"\x01")}
    yield {**rsa_jwk(), "kid": "huge-e", "e": segment(b"\xff" * 40)}
    yield {**rsa_jwk(), "kid": "numbers", "n": 12, "e": [1]}
    yield {**ec_jwk(), "kid": "zero", "x": segment(bytes(32)), "y": segment(bytes(32))}
    yield {**ec_jwk(), "kid": "long", "x": segment(b"\xff" * 64)}
    yield {**ec_jwk(), "kid": "long-chain", "use": "enc", "x5c": ["x" * 100_000]}
    yield {**ec_jwk(), "kid": "list-of-ops", "key_ops": {"verify": 1}}
    yield {**ec_jwk(), "kid": ["list"]}
    yield {**ec_jwk(), "kid": "unicode", "x": "\N{SNOWMAN}"}
    yield {name: value for name, value in ec_jwk().items() if name != "kid"}
    yield {**ec_jwk(), "kid": 7}
    yield {"kty": "future", "kid": "future"}
    yield from (None, "key", 7, [], {})


async def test_good_keys_work_when_the_set_holds_odd_ones(project: Project) -> None:
    project.keys = [*odd_keys(), ec_jwk(), rsa_jwk()]
    assert set(parse_keys(json.dumps({"keys": project.keys}).encode())) == {"ec-1", "rsa-1"}
    assert (await project.verifier.verify(sign(claims()))).user_id == UUID(USER)


async def test_token_refused_when_its_key_is_a_symmetric_one_in_the_set(project: Project) -> None:
    project.keys = [{"kty": "oct", "k": segment(b"s" * 32), "kid": "oct", "alg": "HS256"}, ec_jwk()]
    token = sign(claims(), key=b"s" * 32, alg="HS256", kid="oct")
    assert await refusal(project, token) == "token_algorithm"
    assert await refusal(project, sign(claims(), kid="oct")) == "token_key_unknown"


async def test_first_key_counts_when_two_share_an_id(project: Project) -> None:
    project.keys = [ec_jwk(), ec_jwk(OTHER_EC_KEY)]
    assert await refusal(project, sign(claims(), key=OTHER_EC_KEY)) == "token_signature"
    assert (await project.verifier.verify(sign(claims()))).user_id == UUID(USER)
