"""Every reason for which something is refused has its sentence, in both languages, or is known to need none."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.texts import LANGUAGES, error_message, error_texts
from tests.api import documents
from tests.api.world import Person

ROOT = Path(__file__).parent.parent.parent
KINDS = {
    "InvalidInput",
    "Unauthenticated",
    "Forbidden",
    "NotFound",
    "Conflict",
    "RateLimited",
    "UpstreamFailed",
    "Timeout",
    "LiveKitRefused",
    "MediaRefused",
}
OF_COMMANDS = {
    # Raised by `resguardo migrate`, which prints the reason with its remedy.
    "migrations_missing",
    "migration_name",
    "ledger_versions_unknown",
    "migration_out_of_order",
    "migration_version_twice",
    "database_unreachable",
    "migration_failed",
    "login_password_failed",
    # Raised by `resguardo check` and at the start, likewise.
    "jwks_empty",
    "openai_missing",
    "openai_key_refused",
    "openai_unreachable",
    "supabase_unreachable",
    "storage_of_another_deployment",
}
OF_THE_WORKER = {
    # They end in a recording's `error` or in the log; nobody is answered with them.
    "egress_unknown",
    "egress_start_unknown",
    "object_missing",
    "livekit_no_egress",
    "livekit_status",
    "media_probe_ended",
    "media_too_slow",
    "media_unreadable",
    "object_key_of_another",
    "storage_object_missing",
    "storage_object_changed",
    "storage_object_too_large",
    "supabase_auth",
    "user_unknown",
    "email_exists",
}
OF_OUR_MISTAKES = {
    # What a caller of ours may not pass: a bug, which the code's own sentence serves.
    "filename",
    "object_key",
    "credentials_lifetime",
    "r2_account_id",
    "r2_jurisdiction",
    "not_a_refusal",
    "not_a_rejection",
    "reserved_action",
    "unknown_action",
    "unknown_task",
}
INTERNAL = OF_COMMANDS | OF_THE_WORKER | OF_OUR_MISTAKES


def _raised_in_python() -> Iterator[str]:
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "graphql_schema").rglob("*.py")]:
        if "devstack" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                reason = node.args[0] if node.args else None
                if isinstance(reason, ast.Constant):
                    yield str(reason.value)


def _raised_in_sql() -> Iterator[str]:
    for path in (ROOT / "supabase" / "migrations").glob("*.sql"):
        yield from re.findall(
            r"raise exception '([a-z_]+)'[^;]*errcode = 'RG", path.read_text(encoding="utf-8")
        )


def test_every_reason_has_a_sentence_in_both_languages() -> None:
    reasons = {*_raised_in_python(), *_raised_in_sql()}
    assert len(reasons) > 60, "the search finds hardly any"
    for language in LANGUAGES:
        assert reasons - error_texts(language)["reasons"].keys() - INTERNAL == set()


def test_no_reason_is_called_internal_that_is_not_raised() -> None:
    assert INTERNAL - {*_raised_in_python(), *_raised_in_sql()} == set()


def test_missing_consent_names_roles_in_the_readers_language() -> None:
    detail = {"missing": "DOCTOR, COMPANION"}
    assert error_message("FORBIDDEN", "consent_missing", "en", detail) == (
        "Consent is missing from: doctor, companion."
    )
    assert error_message("FORBIDDEN", "consent_missing", "es", detail) == (
        "Falta el consentimiento de: médico, acompañante."
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("document", "variables", "english", "spanish"),
    [
        (
            documents.RECORDING,
            {"id": "7"},
            "The id is not valid; ids are UUIDs.",
            "El identificador no es válido; los identificadores son UUID.",
        ),
        (
            documents.RECORDING,
            {"id": "00000000-0000-0000-0000-000000000000"},
            "There is no such recording, or you may not see it.",
            "No existe esta grabación, o usted no puede verla.",
        ),
        (documents.AUDIT_EVENTS, {}, "Your role may not do this.", "Su función no permite hacer esto."),
        (
            documents.CONSULTATIONS,
            {"first": 0},
            "The page size must be from 1 to 100.",
            "El tamaño de página debe ser de 1 a 100.",
        ),
    ],
    ids=["bad id", "not found", "role", "page size"],
)
async def test_error_is_told_in_the_readers_language(
    other_doctor: Person, document: str, variables: dict[str, object], english: str, spanish: str
) -> None:
    for language, sentence in (
        ("en", english),
        ("es", spanish),
        ("es-MX,en;q=0.2", spanish),
        ("fr", english),
    ):
        answer = await other_doctor.send(document, in_language=language, **variables)
        assert answer.error.message == sentence
