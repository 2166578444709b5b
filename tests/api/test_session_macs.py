"""Tests that the API accepts only tokens with a MAC of the database's token hook, if the deployment requires
session MACs.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import jwt
import pytest
from psycopg.types.json import Jsonb

from app.identity.session_macs import set_session_macs
from tests.api import documents
from tests.api.harness import ApiHarness, Case, Person, consent_input
from tests.api.socket_client import open_socket
from tests.api.speaking import store_transcript

pytestmark = pytest.mark.anyio


@pytest.fixture
async def signed(harness: ApiHarness, case: Case) -> AsyncIterator[Case]:
    """Yield a consultation in a deployment that requires session MACs. The doctor and the patient have tokens that
    the database's token hook signed with a MAC.
    """
    await case.consent()
    people = [await _with_mac(harness, person) for person in (case.doctor, case.patient)]
    await asyncio.to_thread(set_session_macs, harness.database.owner_url, is_required=True)
    yield replace(case, doctor=people[0], patient=people[1])
    await asyncio.to_thread(set_session_macs, harness.database.owner_url, is_required=False)


async def _with_mac(harness: ApiHarness, person: Person) -> Person:
    claims: dict[str, Any] = jwt.decode(str(person.token), options={"verify_signature": False})
    (row,) = await harness.rows("select private.add_session_mac(%s) as claims", Jsonb(claims))
    return replace(person, token=harness.signer.sign(row["claims"]))


def _without_mac(harness: ApiHarness, person: Person) -> Person:
    claims: dict[str, Any] = jwt.decode(str(person.token), options={"verify_signature": False})
    del claims["resguardo_mac"]
    return replace(person, token=harness.signer.sign(claims))


async def test_people_with_a_mac_are_accepted_by_every_entry_point(harness: ApiHarness, signed: Case) -> None:
    recording = await harness.recording(signed)
    await store_transcript(harness, recording)
    assert (await signed.doctor.ask(documents.VIEWER))["role"] == "CLINICIAN"
    assert (await signed.patient.ask(documents.VIEWER))["role"] == "PATIENT"
    for person in (signed.doctor, signed.patient):
        assert await person.ask(documents.JOIN, consultationId=signed.id)
    urls = await signed.doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    assert (await harness.http.get(urls["webvtt"])).status_code == 200
    async with open_socket(harness.api_url, origin=None) as client:
        await client.init(signed.doctor)
        await client.subscribe(documents.RECORDING_CHANGED, consultationId=signed.id)
        assert (await client.event())["id"] == str(recording)


async def test_people_without_a_mac_are_asked_to_sign_in_again(harness: ApiHarness, signed: Case) -> None:
    for person in (_without_mac(harness, signed.doctor), _without_mac(harness, signed.patient)):
        for document, variables in (
            (documents.VIEWER, {}),
            (documents.JOIN, {"consultationId": signed.id}),
            (documents.CONSULTATIONS, {}),
        ):
            answer = await person.send(document, **variables)
            assert (answer.error.code, answer.error.reason) == ("UNAUTHENTICATED", "session_over")
            assert answer.response.status_code == 401
            assert "sign in again" in answer.error.message
        async with open_socket(harness.api_url, origin=None) as client:
            await client.send_init(person)
            assert await client.wait_for_close() == (4401, "SESSION_OVER")


async def test_mac_of_another_persons_token_is_refused(harness: ApiHarness, signed: Case) -> None:
    claims = jwt.decode(str(signed.doctor.token), options={"verify_signature": False})
    stolen = jwt.decode(str(signed.patient.token), options={"verify_signature": False})["resguardo_mac"]
    token = harness.signer.sign(claims | {"resguardo_mac": stolen})
    assert await replace(signed.doctor, token=token).refused(documents.VIEWER) == (
        "UNAUTHENTICATED",
        "session_over",
    )


async def test_subtitle_link_ends_with_the_session_and_stores_no_session_id(
    harness: ApiHarness, signed: Case
) -> None:
    recording = await harness.recording(signed)
    await store_transcript(harness, recording)
    urls = await signed.doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    (row,) = await harness.rows(
        "select l::text as kept, l.claims, l.expires_at from private.subtitle_links as l where recording_id = %s",
        recording,
    )
    assert str(signed.doctor.session_id) not in row["kept"]
    assert "resguardo_mac" not in row["claims"]
    assert row["claims"]["session_fingerprint"] == signed.doctor.fingerprint
    assert row["claims"]["exp"] == int(row["expires_at"].timestamp())
    assert (await harness.http.get(urls["webvtt"])).status_code == 200
    await harness.end_session(signed.doctor)
    assert (await harness.http.get(urls["webvtt"])).status_code == 401


async def test_no_own_table_stores_a_session_id(harness: ApiHarness, signed: Case, officer: Person) -> None:
    recording = await harness.recording(signed)
    await store_transcript(harness, recording)
    await signed.doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    await signed.doctor.ask(documents.START, consultationId=signed.id)
    await harness.delegated(signed.doctor)
    sessions = [signed.doctor.session_id, signed.patient.session_id]
    tables = await harness.rows(
        "select c.oid::regclass::text as name from pg_class as c where c.relkind in ('r', 'p')"
        " and c.relnamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')"
    )
    for table in tables:
        dump = f"select t::text as row from {table['name']} as t"  # noqa: S608 - a name of the catalogue
        kept = await harness.rows(dump)
        text = "\n".join(row["row"] for row in kept)
        assert not [name for session in sessions for name in (str(session), session.hex) if name in text], (
            table
        )


async def test_session_that_becomes_delegated_is_refused_by_every_entry_point(
    harness: ApiHarness, case: Case
) -> None:
    await case.consent()
    recording = await harness.recording(case)
    await store_transcript(harness, recording)
    urls = await case.doctor.ask(documents.ISSUE_SUBTITLE_URLS, id=str(recording))
    await harness.rows(
        "update auth.sessions set oauth_client_id = gen_random_uuid() where id = %s", case.doctor.session_id
    )
    answer = await harness.http.get(urls["webvtt"])
    assert (answer.status_code, json.loads(answer.text)["errors"][0]["extensions"]["reason"]) == (
        401,
        "SESSION_DELEGATED",
    )
    assert await case.doctor.refused(documents.VIEWER) == ("UNAUTHENTICATED", "session_delegated")
    async with open_socket(harness.api_url, origin=None) as client:
        await client.send_init(case.doctor)
        assert await client.wait_for_close() == (4401, "SESSION_DELEGATED")


@pytest.mark.parametrize("kind", ["DOCTOR", "PATIENT"])
async def test_delegated_session_cannot_record_a_consent_or_join_a_room(
    harness: ApiHarness, case: Case, kind: str
) -> None:
    client = await harness.delegated(case.doctor if kind == "DOCTOR" else case.patient)
    consent = consent_input(case.participant(kind))
    assert await client.refused(documents.RECORD_CONSENT, consent=consent) == (
        "UNAUTHENTICATED",
        "session_delegated",
    )
    assert await client.refused(documents.JOIN, consultationId=case.id) == (
        "UNAUTHENTICATED",
        "session_delegated",
    )
    assert not await harness.rows("select from resguardo.consents where consultation_id = %s", UUID(case.id))
