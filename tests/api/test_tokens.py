"""Tests of every kind of invalid access token over HTTP, and of the audit log's counts of rejected tokens."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.identity.jwks import MIN_REFRESH_SECONDS
from tests.api import documents
from tests.api.harness import ApiHarness, Person, from_address

pytestmark = pytest.mark.anyio

Forge = Callable[[ApiHarness, Person], str]


def _claimed(**claims: Any) -> Forge:
    return lambda harness, person: harness.token(person.user_id, person.session_id, **claims)


def _base64(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _claims(harness: ApiHarness, person: Person) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(str(person.token), options={"verify_signature": False})
    return claims


def _none(harness: ApiHarness, person: Person) -> str:
    header = _base64({"alg": "none", "typ": "JWT", "kid": harness.signer.kid})
    return f"{header}.{_base64(_claims(harness, person))}."


def _hs256_with_the_public_key(harness: ApiHarness, person: Person) -> str:
    """Return a token signed with HS256 and the public key as the secret. The test computes the signature without a
    JWT library, because libraries refuse a PEM key as an HMAC secret.
    """
    pem = harness.signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = _base64({"alg": "HS256", "typ": "JWT", "kid": harness.signer.kid})
    signed = f"{header}.{_base64(_claims(harness, person))}"
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed.encode(), pem)
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _another_key(kid: str | None) -> Forge:
    def forge(harness: ApiHarness, person: Person) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        headers = {"kid": kid or harness.signer.kid}
        return jwt.encode(_claims(harness, person), key, algorithm="ES256", headers=headers)

    return forge


def _altered(harness: ApiHarness, person: Person) -> str:
    header, _, signature = str(person.token).split(".")
    return f"{header}.{_base64(_claims(harness, person) | {'sub': str(uuid4())})}.{signature}"


BROKEN: dict[str, tuple[Forge, str]] = {
    "expired": (_claimed(exp=int(time.time()) - 60), "token_expired"),
    "other audience": (_claimed(aud="anon"), "token_audience"),
    "several audiences": (_claimed(aud=["authenticated", "anon"]), "token_audience"),
    "from the future": (_claimed(iat=int(time.time()) + 86_400), "token_clock"),
    "not valid yet": (_claimed(nbf=int(time.time()) + 86_400), "token_clock"),
    "of an OAuth client": (_claimed(client_id=str(uuid4()), scope="email"), "session_delegated"),
    "of a nameless OAuth client": (_claimed(client_id=""), "session_delegated"),
    "of a null OAuth client": (_claimed(client_id=None), "session_delegated"),
    "limited to a scope": (_claimed(scope="openid email"), "session_delegated"),
    "other role": (_claimed(role="service_role"), "token_role"),
    "anonymous": (_claimed(is_anonymous=True), "token_anonymous"),
    "no session": (_claimed(session_id=None), "token_claims"),
    "no person": (_claimed(sub=""), "token_claims"),
    "odd level": (lambda w, p: w.signer.sign(_claims(w, p) | {"aal": "aal9"}), "token_claims"),
    "other issuer": (
        lambda w, p: replace(w.signer, issuer="https://evil.example/auth/v1").sign(_claims(w, p)),
        "token_issuer",
    ),
    "none": (_none, "token_algorithm"),
    "HS256 with the public key": (_hs256_with_the_public_key, "token_algorithm"),
    "signed by another": (_another_key(None), "token_signature"),
    "unknown key id": (_another_key("nobody"), "token_key_unknown"),
    "altered": (_altered, "token_signature"),
    "too long": (lambda w, p: "x" * 9000, "token_malformed"),
    "no token at all": (lambda w, p: "hello", "token_malformed"),
    "empty": (lambda w, p: "", "token_missing"),
}


@contextmanager
def _counted_fetches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Yield a list to which each request for signing keys (JWKS) is added that this process sends during the `with`
    block.
    """
    fetched: list[str] = []
    send = httpx.AsyncClient.send

    async def counted(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        if request.url.path.endswith("jwks.json"):
            fetched.append(str(request.url))
        return await send(self, request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(httpx.AsyncClient, "send", counted)
        yield fetched


@pytest.mark.parametrize("kind", BROKEN)
async def test_broken_token_is_refused_and_not_repeated(
    harness: ApiHarness, other_doctor: Person, kind: str
) -> None:
    forge, reason = BROKEN[kind]
    token = forge(harness, other_doctor)
    answer = await replace(other_doctor, token=token).send(documents.CONSULTATIONS)
    assert (answer.error.code, answer.error.reason) == ("UNAUTHENTICATED", reason)
    assert answer.body["data"] == {"consultations": None}
    assert (answer.response.status_code, answer.response.headers["www-authenticate"]) == (401, "Bearer")
    assert not token or token not in answer.response.text
    assert not await harness.audit(answer.request_id), "broken tokens are counted, not logged one by one"


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json", "*/*"])
async def test_ended_session_is_status_401_in_every_media_type(harness: ApiHarness, accept: str) -> None:
    doctor = await harness.clinician()
    await harness.end_session(doctor)
    response = await doctor.http.post(
        "/graphql",
        json={"query": documents.VIEWER},
        headers={"Authorization": f"Bearer {doctor.token}", "Accept": accept},
    )
    assert response.status_code == 401
    assert response.json()["errors"][0]["extensions"]["reason"] == "SESSION_OVER"


@pytest.mark.parametrize("token", [None, "broken", ""])
async def test_public_field_is_answered_whatever_the_token(harness: ApiHarness, token: str | None) -> None:
    answer = await replace(harness.stranger(), token=token).send("{ consentText(language: EN) { version } }")
    assert answer.response.status_code == 200
    assert answer.data["consentText"]["version"]


async def test_token_issued_thirty_seconds_in_the_future_is_accepted(
    harness: ApiHarness, other_doctor: Person
) -> None:
    token = harness.token(other_doctor.user_id, other_doctor.session_id, iat=int(time.time()) + 28)
    assert (await replace(other_doctor, token=token).ask(documents.VIEWER))["role"] == "CLINICIAN"


@pytest.mark.parametrize("language", ["en", "es"])
async def test_token_from_the_future_is_an_error_of_the_clock(
    harness: ApiHarness, other_doctor: Person, language: str
) -> None:
    token = harness.token(other_doctor.user_id, other_doctor.session_id, iat=int(time.time()) + 90)
    answer = await replace(other_doctor, token=token).send(documents.VIEWER, in_language=language)
    assert answer.error.reason == "token_clock"
    assert {"en": "clock", "es": "reloj"}[language] in answer.error.message
    assert "sign in again" not in answer.error.message


@pytest.mark.parametrize("scheme", ["Basic", "", "Bearer:", "Token"])
async def test_other_scheme_than_bearer_counts_as_a_missing_token(other_doctor: Person, scheme: str) -> None:
    response = await other_doctor.http.post(
        "/graphql",
        json={"query": documents.VIEWER},
        headers={"Authorization": f"{scheme} {other_doctor.token}"},
    )
    (error,) = response.json()["errors"]
    assert error["extensions"]["reason"] == "TOKEN_MISSING"


async def test_token_error_is_in_the_readers_language(other_doctor: Person) -> None:
    stranger = replace(other_doctor, token=None)
    answer = await stranger.send(documents.VIEWER, in_language="es-MX, en;q=0.5")
    assert answer.error.message == "No ha iniciado sesión. Inicie sesión, por favor."


async def test_flood_of_unknown_key_ids_causes_at_most_one_fetch_in_two_seconds(
    harness: ApiHarness, other_doctor: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _counted_fetches(monkeypatch) as fetched:
        async with harness.another_api() as http:
            known = replace(other_doctor, http=http)
            assert (await known.ask(documents.VIEWER))["role"] == "CLINICIAN"
            fetched.clear()
            began = time.monotonic()
            for number in range(30):
                flood = replace(known, token=_another_key(f"kid-{number}")(harness, other_doctor))
                assert (await flood.refused(documents.VIEWER))[1] == "token_key_unknown"
            assert (await known.ask(documents.VIEWER))["role"] == "CLINICIAN"
            most = 1 + (time.monotonic() - began) / MIN_REFRESH_SECONDS
    assert len(fetched) <= most


async def test_requests_without_a_valid_token_write_one_audit_row_per_address(harness: ApiHarness) -> None:
    async with harness.another_api() as http:
        for count, address in ((7, "198.51.100.1"), (2, "198.51.100.2")):
            async with from_address(http, address) as client:
                for _ in range(count):
                    stranger = Person(client, uuid4(), uuid4(), "broken")
                    assert (await stranger.refused(documents.VIEWER))[0] == "UNAUTHENTICATED"
    rows = await harness.rows(
        "select host(address) as address, row_count, outcome, actor_id, request_id from audit.events"
        " where action = 'request.reject' and address << '198.51.100.0/24' order by address"
    )
    assert [(row["address"], row["row_count"]) for row in rows] == [("198.51.100.1", 7), ("198.51.100.2", 2)]
    assert {(row["outcome"], row["actor_id"], row["request_id"]) for row in rows} == {("DENIED", None, None)}


async def test_request_with_several_fields_counts_one_rejection(harness: ApiHarness) -> None:
    two = "{ a: consultations { edges { cursor } } b: recordings { edges { cursor } } }"
    async with harness.another_api() as http, from_address(http, "198.51.101.1") as client:
        answer = await Person(client, uuid4(), uuid4(), "broken").send(two)
        assert {error["extensions"]["code"] for error in answer.body["errors"]} == {"UNAUTHENTICATED"}
    (row,) = await harness.rows("select row_count from audit.events where address = '198.51.101.1'")
    assert row["row_count"] == 1
