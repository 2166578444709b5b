"""Every reason of a refusal has a sentence in both languages, or is listed as internal."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.identity import tokens
from app.integrations import cloudflare
from app.integrations.livekit import refusals as livekit_refusals
from app.integrations.livekit.snapshots import _ENDS_BEFORE_START, _REASONS
from app.integrations.speech import refusals as speech_refusals
from app.integrations.storage import refusals as storage_refusals
from app.integrations.storage import sts
from app.integrations.supabase import refusals as supabase_refusals
from app.postgres import errors as db_errors
from app.texts import (
    LANGUAGES,
    error_message,
    error_texts,
    recording_error_text,
    transcription_error_text,
)
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
    "nobody_leads",
    # `resguardo migrate` raises these reasons, and prints each with its remedy.
    "migrations_missing",
    "quotas_malformed",
    "migration_name",
    "ledger_versions_unknown",
    "database_of_pre_release",
    "access_not_applied",
    "temp_role_is_ours",
    "temp_role_unknown",
    "temp_not_revoked",
    "migration_out_of_order",
    "migration_version_twice",
    "database_unreachable",
    "migration_failed",
    "login_password_failed",
    # `resguardo retention propose` raises this reason, and prints it with its remedy.
    "retention_malformed",
    "retention_unknown_key",
    "retention_term_absurd",
    "retention_kinds_overlap",
    "retention_jurisdiction_unknown",
    "retention_below_floor",
    # `resguardo check` and every start raise these reasons, and print each with its remedy.
    "jwks_empty",
    "openai_missing",
    "openai_unreachable",
    "pooler_keeps_no_session",
    "supabase_unreachable",
    "storage_of_another_deployment",
    "storage_overwrites",
    "storage_presigned_refused",
    "storage_versioned",
    "recorder_key_reads",
    "database_unmigrated",
    "root_key_missing",
    "root_key_wrong",
    # The settings, `resguardo keys` and `resguardo drill` raise these reasons, and print each with its remedy.
    "root_keys_malformed",
    "root_key_twice",
    "root_key_weak",
    "root_key_id",
    "escrow_exists",
    "escrow_unreadable",
    "escrow_unwritable",
    "passphrase_short",
    "passphrases_differ",
    # `resguardo policies` raises these reasons, and prints each with its remedy.
    "bucket_policy_unreadable",
    "bucket_policy_malformed",
    "bucket_policy_unsafe",
    "bucket_keys_missing",
    "bucket_changed",
    "bucket_not_as_put",
    "holds_unprotected",
    "lifecycle_rules_limit",
    # `resguardo certificate` raises these reasons, and prints each with its remedy.
    "certificate_malformed",
    "certificate_other_key",
    "certificate_signature",
    "certificate_public_key",
    "certificate_too_large",
    "certificate_pdf_malformed",
    "certificate_pdf_attachments",
}
OF_THE_WORKER = {
    "recorder_role_refused",
    "recorder_role_unsupported",
    "lead_lost",
    # These reasons become the `error` of a recording or a deletion, or a log line. No answer to a caller contains
    # them.
    "object_still_there",
    "object_appeared",
    "too_many_objects",
    "attempt_overdue",
    "ledger_number_taken",
    "ledger_entry_foreign",
    "certificate_impossible",
    "recording_not_destroyed",
    "object_missing",
    "object_move_undecided",
    "livekit_no_egress",
    "media_probe_ended",
    "media_too_slow",
    "media_unreadable",
    "object_key_of_another",
    "storage_object_missing",
    "storage_object_changed",
    "storage_object_too_large",
    "cloudflare_timeout",
    "cloudflare_unreachable",
    "cloudflare_failed",
    "cloudflare_lock_unknown",
    "cloudflare_token_missing",
    "lock_rules_limit",
    "supabase_auth",
    "user_unknown",
    "email_exists",
    "media_sound_ended",
    "speech_access_denied",
    "speech_account_suspended",
    "speech_address_refused",
    "sound_not_decodable",
    "speech_busy",
    "speech_failed",
    "speech_format_unsupported",
    "speech_key_refused",
    "speech_model_unknown",
    "speech_nonsense",
    "speech_quota",
    "speech_refused",
    "speech_timeout",
    "transcription_overtaken",
}
OF_OUR_MISTAKES = {
    # These reasons show a bug in our own code. The sentence in the code is sufficient.
    "filename",
    "object_key",
    "credentials_lifetime",
    "r2_account_id",
    "r2_jurisdiction",
    "lock_rule_twice",
    "not_a_refusal",
    "not_a_rejection",
    "reserved_action",
    "unknown_action",
    "unknown_task",
    "correction_order",
}
GIVES_AN_ERROR = {"failed", "lost", "stopped", "stop_consultation", "_fail_unless_begun", "partial"}
DECIDES_AN_ERROR = {"objection", "_error_after"}
RETRIED = {"media_probe_ended", "media_sound_ended"}
OF_WORDS = {"recording_destroyed"}
OF_OUR_KEYS = {"data_key_wrong", "field_unreadable", "root_key_unknown"}
OF_STORAGE = {
    *storage_refusals.REASONS.values(),
    *storage_refusals.OF_STATUS.values(),
    "storage_not_s3",
}
OF_SPEECH = {reason for _, reason in speech_refusals.FINAL.values()}
OF_SUPABASE = {reason for _, reason in supabase_refusals.REASONS.values()} | {
    *supabase_refusals.OF_STATUS.values()
}
OF_DATABASE = {*db_errors.REASONS.values()}
OF_TOKENS = {*tokens.REASONS.values()}
"""The reasons in the tables of vendor codes. No call in the source names these reasons."""

OF_A_START = {
    *sts._OF_A_ROLE.values(),
    *livekit_refusals.REASONS.values(),
    "livekit_clock",
    "livekit_refused",
    "livekit_timeout",
    "livekit_unavailable",
    "egress_start_unknown",
    "internal_error",
}
"""The reasons that end the attempts of a start, or of a call to LiveKit that certainly had no effect."""
SLUG = re.compile(r"[a-z]+(_[a-z]+)+_?")
INTERNAL = OF_COMMANDS | OF_THE_WORKER | OF_OUR_MISTAKES


def _raised_in_python() -> Iterator[str]:
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "graphql_schema").rglob("*.py")]:
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
    reasons = {*_raised_in_python(), *_raised_in_sql(), *OF_STORAGE, *OF_SUPABASE, *OF_DATABASE, *OF_TOKENS}
    assert len(reasons) > 60, "the search finds hardly any"
    for language in LANGUAGES:
        assert reasons - error_texts(language)["reasons"].keys() - INTERNAL == set()


def test_no_reason_is_called_internal_that_is_not_raised() -> None:
    assert (
        INTERNAL
        - {
            *_raised_in_python(),
            *_raised_in_sql(),
            *OF_SPEECH,
            *OF_SUPABASE,
            *sts._OF_A_ROLE.values(),
        }
        == set()
    )


def test_every_reason_of_a_vendors_table_may_stand_in_the_audit_log() -> None:
    registered = {
        term
        for path in (ROOT / "supabase" / "migrations").glob("*.sql")
        for found in re.findall(
            r"select 'reason', t\.term from unnest\(array\[(.*?)\]\)",
            path.read_text(encoding="utf-8"),
            re.DOTALL,
        )
        for term in re.findall(r"'([^']+)'", found)
    }
    of_cloudflare = {*cloudflare._REASONS.values(), *cloudflare._OF_STATUS.values()}
    of_livekit = {*livekit_refusals.REASONS.values()}
    of_roles = {*sts._OF_A_ROLE.values()}
    assert OF_STORAGE | OF_SPEECH | OF_SUPABASE | of_cloudflare | of_livekit | of_roles <= registered


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Constant(str(value))):
                yield name, value
            case ast.AnnAssign(target=ast.Name(name), value=ast.Constant(str(value))):
                yield name, value


def _given(call: ast.Call) -> Iterator[ast.expr]:
    """Yield the arguments of a call that may become a recording's error."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in GIVES_AN_ERROR:
        yield from call.args[1:]
    yield from (word.value for word in call.keywords if word.arg == "error")


def _written_in_python() -> Iterator[str]:
    """Yield every slug that the code can store as a recording's error."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "app/recordings").glob("*.py")]
    named = {name: value for tree in trees for name, value in _constants(tree)}
    for node in (node for tree in trees for node in ast.walk(tree)):
        found = list(_given(node)) if isinstance(node, ast.Call) else []
        if isinstance(node, ast.FunctionDef) and node.name in DECIDES_AN_ERROR:
            found = [one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value]
        for value in (part for one in found for part in ast.walk(one)):
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value
            elif isinstance(value, ast.Name) and value.id in named:
                yield named[value.id]


def _written_in_sql() -> Iterator[str]:
    for path in (ROOT / "supabase" / "migrations").glob("*.sql"):
        text = path.read_text(encoding="utf-8")
        yield from re.findall(r"\berror = '([a-z_]+)'", text)
        yield from re.findall(r"\brefusal := case when .*?then '([a-z_]+)' end", text, re.DOTALL)


def test_every_error_of_a_recording_has_a_sentence_in_both_languages() -> None:
    of_egress = {f"egress_{reason}" for _, reason in (*_REASONS, *_ENDS_BEFORE_START)} | {"egress_failed"}
    of_probe = {reason for reason in _raised_in_python() if reason.startswith("media_")} - RETRIED
    slugs = {one for one in _written_in_python() if SLUG.fullmatch(one)} - {"egress_"}
    written = slugs | set(_written_in_sql()) - OF_WORDS | of_egress | of_probe | OF_A_START
    assert {
        "consent_missing",
        "staff_suspended",
        "limit_reached",
        "egress_aborted",
        "livekit_no_egress",
    } <= written
    for language in LANGUAGES:
        sentences = error_texts(language)["recording_errors"]
        assert written - sentences.keys() == set()
        assert sentences.keys() - written == set(), "nobody writes these"
        assert recording_error_text("nobody_knows", language) == sentences["internal_error"]


def test_every_error_of_a_transcription_has_a_sentence_in_both_languages() -> None:
    written = {one for one in _raised_in_python() if one.startswith(("speech_", "media_"))} - {
        "media_probe_ended"
    }
    for path in (ROOT / "supabase" / "migrations").glob("*.sql"):
        text = path.read_text(encoding="utf-8")
        written.update(re.findall(r"end_transcription\([^;]*, '(?:FAILED|OFF)', '([a-z_]+)'\)", text))
    written |= (
        OF_STORAGE
        | OF_SPEECH
        | OF_OUR_KEYS
        | OF_DATABASE
        | {
            "consent_withdrawn",
            "switched_off",
            "recording_destroyed",
            "speech_not_configured",
            "storage_failed",
            "storage_timeout",
            "storage_unreachable",
            "storage_object_missing",
            "storage_object_changed",
            "database_unavailable",
            "concurrent_change",
            "internal_error",
        }
    )
    written |= OF_OUR_KEYS | {
        "switched_off",
        "recording_destroyed",
        "speech_not_configured",
        "storage_failed",
        "storage_timeout",
        "storage_unreachable",
        "storage_object_missing",
        "storage_object_changed",
        "database_unavailable",
        "concurrent_change",
        "internal_error",
        "sound_not_decodable",
    }
    assert {"consent_text", "speech_nonsense", "media_sound_ended"} <= written
    for language in LANGUAGES:
        sentences = error_texts(language)["transcription_errors"]
        assert sentences.keys() == written
        assert transcription_error_text("nobody_knows", language) == sentences["internal_error"]


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
            "This recording does not exist, or you may not see it.",
            "No existe esta grabación, o usted no puede verla.",
        ),
        (documents.AUDIT_EVENTS, {}, "Your role does not permit this.", "Su función no permite hacer esto."),
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
