"""Tests of the problems that the API shows for stored codes: a recording, a transcription, a staff invitation, a
deletion, and an encrypted copy.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import strawberry
from graphql import GraphQLEnumType

from app.integrations.storage.refusals import OF_STATUS, REASONS
from app.postgres.errors import REASONS as DATABASE_REASONS
from app.texts import LANGUAGES
from app.texts.reasons import Reader, load_reasons
from graphql_schema import problems
from tests.api import small_api

TYPES: dict[Reader, Any] = {
    "recording": problems.RecordingProblem,
    "signed_note": problems.SignedNoteProblem,
    "transcription": problems.TranscriptionProblem,
    "invitation": problems.StaffInvitationProblem,
    "deletion": problems.DeletionProblem,
    "export": problems.AccessExportProblem,
    "audit_export": problems.AuditExportProblem,
    "officer_proposal": problems.OfficerProposalProblem,
    "webhook": problems.WebhookProblem,
    "clip": problems.ClipProblem,
}
STORED = re.compile(r"(?:Conflict|Timeout|NotFound)\(\"([a-z_]+)\"")


def _read_by(reader: Reader) -> set[str]:
    return {name for name, reason in load_reasons().items() if reader in reason.readers}


@pytest.mark.parametrize("reader", TYPES)
def test_problem_code_is_an_enum_of_the_registered_reasons_with_their_texts(reader: Reader) -> None:
    schema = strawberry.Schema(small_api.Query, types=[TYPES[reader]])
    found = schema._schema.type_map[f"{TYPES[reader].__name__}Code"]
    assert isinstance(found, GraphQLEnumType)
    assert set(found.values) == {name.upper() for name in _read_by(reader)}
    for name, value in found.values.items():
        assert value.description is not None
        assert value.description.endswith("."), name
        assert found.serialize(name.lower()) == name


@pytest.mark.parametrize("reader", TYPES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_problem_has_a_whole_message_for_every_code(reader: Reader, language: Any) -> None:
    for name in _read_by(reader):
        problem = TYPES[reader].of(name, language)
        assert problem.code == name
        assert "{" not in problem.message
        assert problem.message.endswith((".", ")"))


@pytest.mark.parametrize("reader", TYPES)
def test_unknown_stored_code_is_an_internal_error(reader: Reader) -> None:
    unknown = TYPES[reader].of("of_another_release", "en")
    assert unknown == TYPES[reader].of("internal_error", "en")
    assert "of_another_release" not in unknown.message
    assert TYPES[reader].of(None, "en") is None


@pytest.mark.parametrize(
    ("reader", "modules"),
    [
        ("deletion", ["app/deletions/destroyer.py", "app/deletions/ledger.py"]),
        ("export", ["app/access_requests/exports.py"]),
        ("audit_export", ["app/audit_exports/exporter.py"]),
        ("clip", ["app/clips/cutter.py", "app/media/clips.py"]),
    ],
)
def test_every_reason_that_stops_the_work_is_a_problem_of_it(reader: Reader, modules: list[str]) -> None:
    raised = {
        name
        for module in modules
        for name in STORED.findall((Path(__file__).parents[2] / module).read_text(encoding="utf-8"))
    }
    assert raised
    stored = {*REASONS.values(), *OF_STATUS.values(), *DATABASE_REASONS.values()}
    assert raised | stored <= _read_by(reader)


def test_deletion_problem_says_that_the_worker_tries_again() -> None:
    problem = problems.DeletionProblem.of("storage_timeout", "en")
    assert problem is not None
    assert problem.message.endswith("The worker tries again by itself.")
