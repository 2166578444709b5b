"""Tests of law 4: every statement of every role fails after the person's session has ended.

Postgres evaluates a row policy for each row, and therefore perhaps not at all if the table is empty. After a
person's session has ended, a plain SELECT of that person returns no row. The statements of the API write an audit
row, so the database refuses them even if the table is empty.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.databases import Cluster, Database
from tests.policies.acting import outcome, refused, superuser, value
from tests.policies.actors import Connection, begin_as, claims_of, id_of
from tests.policies.seed import seed

UNCHECKED = {"claims", "uid", "is_live", "may_become", "today", "unready_reason"}
"""Functions that reveal nothing: they only repeat the caller's claims."""

AS_THE_API: LiteralString = (
    "with page as materialized (select * from resguardo.consultations),"
    " seen as materialized (select private.record_access('consultation.list', 'consultation', null,"
    " coalesce(array_agg(p.id), '{}'), array_agg(p.patient_id), array_agg(p.id), '{}', null) as recorded"
    " from page as p) select (select s.recorded from seen as s), (select count(*) from page)"
)
STATEMENTS: dict[str, tuple[LiteralString, ...]] = {
    "clinician": (
        "select from resguardo.staff",
        "select from resguardo.patients",
        "select from resguardo.consultations",
        "select from resguardo.participants",
        "select from resguardo.consents",
        "select from resguardo.standing_consents",
        "select from resguardo.recordings",
        "select from resguardo.recording_imports",
        AS_THE_API,
        "select from resguardo.recordings for update",
        "update resguardo.recordings set status = 'STOPPING'",
        "update resguardo.participants set joined_at = now()",
        "select private.person()",
        "select private.doctor()",
        "select private.record_access('recording.list', 'recording', null, '{}', '{}', '{}', '{}', null)",
        "select private.record_lookup('deletion.list', 'x', null, null, null, '{}', '{}', '{}', 0, '{}', null)",
        "select private.shows_recording(gen_random_uuid())",
        "select private.lock_consultation(gen_random_uuid())",
        "select private.consultation_id_of('x')",
        "select private.recording_id_of('x')",
        "select private.patient_id_of('x')",
        "select private.recording_blockers(gen_random_uuid())",
        "select private.is_own_held(gen_random_uuid())",
        "select private.has_live_recording(gen_random_uuid())",
        "select private.claim_idempotency_key('startRecording', sha256('k'), sha256('i'))",
        "select private.settle_idempotency_key('startRecording', sha256('k'), sha256('i'), gen_random_uuid())",
        "select private.everyone_consents(gen_random_uuid())",
        "select private.defer_job('stop_recording', gen_random_uuid())",
        "select private.register_patient('x', null, null)",
        "select private.assign_object_key(gen_random_uuid())",
        "select private.release_object_key('recording.issue_url', gen_random_uuid(), null)",
        "select private.keep_invitation(gen_random_uuid(), '', now())",
        "select private.release_upload_url(gen_random_uuid())",
        "select private.count_page()",
        "select private.require_language_budget()",
        "select private.count_tokens(gen_random_uuid(), 'vendor', 'model', 1, 0, 1)",
        "select private.complete_import(gen_random_uuid())",
        "select from resguardo.deletions",
        "select from resguardo.certificates",
        "select private.request_deletion(gen_random_uuid(), 'OTHER')",
        "select private.request_clip(gen_random_uuid(), 0, 1000, null)",
        "select private.store_thumbnail_link(gen_random_uuid(), '', 60)",
        "select private.open_thumbnail(gen_random_uuid())",
        "select private.undo_deletion(gen_random_uuid())",
        "select from resguardo.shares",
        "select from resguardo.emergency_accesses",
        "select from resguardo.sharing_authorizations",
        "select private.shared_consultation_ids()",
        "select private.access_ends_at(gen_random_uuid())",
        "select private.share_consultation(gen_random_uuid(), gen_random_uuid(), 'COVERAGE', false, now())",
        "select private.end_share(gen_random_uuid())",
        "select private.authorize_sharing(gen_random_uuid(), null, current_date, false, now())",
        "select private.withdraw_sharing_authorization(gen_random_uuid())",
        "select private.break_glass('x', 'DISASTER')",
        "select private.access_basis(gen_random_uuid())",
        "select from resguardo.transcripts",
        "select from resguardo.amendments",
        "select private.read_amendment_texts('amendment.list', null, '[]', '{}')",
        "select from resguardo.signed_notes",
        "select from resguardo.signed_note_versions",
        "select from resguardo.note_certificates",
        "select private.begin_signing(gen_random_uuid(), 1, null, '', 'first')",
        "select private.read_signed_notes(null, null, '[]', '{}')",
        "select private.store_signed_note(gen_random_uuid(), gen_random_uuid(), 1, now(), '', '', 1, 0)",
        "select private.open_transcript('transcript.read', gen_random_uuid(), '[]', '{}')",
        "select private.correct_transcript(gen_random_uuid(), 1, '', '{}')",
        "select private.search_transcripts('{1}', null, null, null, null, null, false, 1, '{}')",
        "select private.add_shown_hits(gen_random_uuid(), '[]')",
        "select private.read_word_index_key()",
        "select private.store_subtitle_link(gen_random_uuid(), '', 60)",
        "select private.open_note_draft('note_draft.read', gen_random_uuid(), '[]', '{}')",
        "select private.store_note_draft(gen_random_uuid(), 0, '', false)",
        "select private.request_note_section(gen_random_uuid(), 'S', 0)",
        "select private.retry_transcription(gen_random_uuid())",
        "select private.switch_transcription(gen_random_uuid(), true)",
        "select from resguardo.insights",
        "select from resguardo.clips",
        "select private.open_insights('insights.read', gen_random_uuid(), '[]', '{}')",
        "select private.dismiss_insight(gen_random_uuid(), 1, 1)",
        "select private.retry_insights(gen_random_uuid())",
        "select private.refresh_insights(gen_random_uuid())",
        "select private.begin_session_note('session_note.write', gen_random_uuid(), '{}', '{}')",
        "select private.add_session_note('session_note.write', gen_random_uuid(), gen_random_uuid(), null, '')",
        "select private.begin_note_change('session_note.edit', gen_random_uuid())",
        "select private.change_session_note('session_note.edit', gen_random_uuid(), 1, null, '')",
        "select private.delete_session_note('session_note.delete', gen_random_uuid(), 1)",
        "select private.open_session_notes('session_note.read', gen_random_uuid(), null, '[]', '{}', true)",
        "select private.open_psychotherapy_notes('psychotherapy_note.read', gen_random_uuid(), null, '[]', '{}', true)",
        "select private.session_notes_version(gen_random_uuid())",
        "select private.topics_of(gen_random_uuid())",
        "select private.label_of(gen_random_uuid())",
        "select private.begin_label(gen_random_uuid(), null, null)",
        "select private.store_label(gen_random_uuid(), null)",
        "select private.require_question_allowed(gen_random_uuid(), false)",
        "select private.begin_question(gen_random_uuid(), gen_random_uuid(), 60)",
        "select private.require_answer_shown(gen_random_uuid())",
    ),
    "compliance": (
        "select private.label_of(gen_random_uuid())",
        "select private.topics_of(gen_random_uuid())",
        "select from resguardo.staff",
        "select from resguardo.patients",
        "select from resguardo.consultations",
        "select from resguardo.participants",
        "select from resguardo.consents",
        "select from resguardo.standing_consents",
        "select from resguardo.recordings",
        "select from resguardo.shares",
        "select from resguardo.emergency_accesses",
        "select from resguardo.sharing_authorizations",
        "select private.access_basis(gen_random_uuid())",
        "select from resguardo.transcripts",
        "select from resguardo.signed_notes",
        "select from resguardo.signed_note_versions",
        "select from resguardo.insights",
        "select from resguardo.clips",
        "select from resguardo.note_certificates",
        AS_THE_API,
        "select private.consultation_id_of('x')",
        "select private.recording_id_of('x')",
        "select private.patient_id_of('x')",
        "select private.recording_blockers(gen_random_uuid())",
        "select private.is_own_held(gen_random_uuid())",
        "select private.person()",
        "select private.record_access('staff.suspend', 'staff', null, '{}', '{}', '{}', '{}', null)",
        "select private.record_lookup('deletion.list', 'x', null, null, null, '{}', '{}', '{}', 0, '{}', null)",
        "select private.shows_recording(gen_random_uuid())",
        "select private.read_audit(null, null, null, 10, '{}')",
        "select private.summarize_audit(null, 'day', 'action', '{}')",
        "select private.suspend_staff(gen_random_uuid())",
        "select private.publish_staff_name(gen_random_uuid(), null)",
        "select private.last_use(gen_random_uuid())",
        "select from resguardo.officer_proposals",
        "select private.propose('REINSTATE', gen_random_uuid(), null, 'RETURNED_TO_WORK', null)",
        "select from resguardo.access_reviews",
        "select from resguardo.access_review_entries",
        "select private.start_access_review(90, null)",
        "select private.decide_access(gen_random_uuid(), gen_random_uuid(), 'KEEP')",
        "select private.settle_access_review(gen_random_uuid(), true, null)",
        "select private.decide_proposal(gen_random_uuid(), true, null)",
        "select private.invite_staff('new@example.org', 'clinician')",
        "select private.read_staff_invitations(null, null, 25, '{}')",
        "select from resguardo.alerts",
        "select private.report_fetches(now() - interval '1 day', now())",
        "select from resguardo.audit_exports",
        "select from resguardo.review_cases",
        "select from resguardo.review_policies",
        "select from private.read_review_rules()",
        "select private.decide_review_policy(1, true)",
        "select from private.read_review_policies(null)",
        "select from resguardo.review_case_events",
        "select private.may_review(private.person(), gen_random_uuid())",
        "select from resguardo.amendments",
        "select private.read_amendment_texts('amendment.list', null, '[]', '{}')",
        "select private.request_amendment(gen_random_uuid(), null, 'RECORD', current_date, false, '', '')",
        "select private.answer_amendment(gen_random_uuid(), 'DISAGREEMENT', '', '')",
        "select private.include_amendment(gen_random_uuid())",
        "select private.store_amendment_text(gen_random_uuid(), '')",
        "select private.extend_amendment(gen_random_uuid(), 30, 'VOLUME')",
        "select private.decide_amendment(gen_random_uuid(), null, '', '')",
        "select from resguardo.disclosures",
        "select from resguardo.accounting_requests",
        "select private.file_accounting_request(gen_random_uuid(), current_date, null, null)",
        "select private.withdraw_accounting_request(gen_random_uuid())",
        "select private.extend_accounting_request(gen_random_uuid(), 30, 'VOLUME')",
        "select private.begin_accounting(gen_random_uuid(), '', '')",
        "select private.read_accounting_entries(gen_random_uuid())",
        "select private.finish_accounting(gen_random_uuid(), '', '', 0)",
        "select from resguardo.disclosure_suspensions",
        "select private.record_disclosure(gen_random_uuid(), null, now()::date, null, 1, 'X', null, null, '', '')",
        "select private.store_patient_text(gen_random_uuid(), gen_random_uuid(), '')",
        "select private.read_disclosure_texts('disclosure.list', null, '[]', '{}')",
        "select private.suspend_disclosures(gen_random_uuid(), 'LAW_ENFORCEMENT', true, now(), '', '')",
        "select private.lift_disclosure_suspension(gen_random_uuid())",
        "select private.read_released_copies(null, null, null, null, null, 2, '{}')",
        "select private.record_disposition(gen_random_uuid(), 'APPROPRIATE', 'x')",
        "select private.assign_review_case(gen_random_uuid(), null)",
        "select private.read_case_event(gen_random_uuid(), gen_random_uuid(), now())",
        "select from resguardo.breach_assessments",
        "select from resguardo.breach_patients",
        "select from resguardo.breach_recordings",
        "select from resguardo.breach_factors",
        "select from resguardo.breach_notices",
        "select from resguardo.sanctions",
        "select from resguardo.attestations",
        "select private.open_breach(null, null, null)",
        "select from private.list_needed_notices(gen_random_uuid())",
        "select private.recount_breach(gen_random_uuid())",
        "select private.record_breach_factor(gen_random_uuid(), 'MITIGATION', 'LOW', 'x')",
        "select private.delay_breach_notices(gen_random_uuid(), 'ORAL', current_date)",
        "select private.decide_breach(gen_random_uuid(), 'BREACH', null, null)",
        "select private.record_breach_notice(gen_random_uuid(), 'MEDIA', 'PRESS', null, current_date, null)",
        "select private.record_sanction(gen_random_uuid(), null, 'CARELESS', 'TRAINING', current_date)",
        "select private.attest_review('2026-01-01', '{NOTHING}', null, null)",
        "select private.claim_idempotency_key('openBreachAssessment', sha256('k'), sha256('i'))",
        "select private.settle_idempotency_key('openBreachAssessment', sha256('k'), sha256('i'), gen_random_uuid())",
        "select private.request_audit_export('NDJSON', null, null)",
        "select private.release_audit_export_key(gen_random_uuid(), null)",
        "select private.reveal_audit_export_secret(gen_random_uuid(), null)",
        "select from resguardo.webhook_deliveries",
        "select from resguardo.webhook_attempts",
        "select private.redeliver_webhook(gen_random_uuid())",
        "select from resguardo.vendor_agreements",
        "select private.record_vendor_agreement('VIDEO', 'v', 'AGREEMENT', '1', 's', '2026-01-01', null)",
        "select private.claim_idempotency_key('exportAuditEvents', sha256('k'), sha256('i'))",
        "select private.settle_idempotency_key('exportAuditEvents', sha256('k'), sha256('i'), gen_random_uuid())",
        "select from resguardo.legal_holds",
        "select private.place_hold(gen_random_uuid(), null, null, null, 'm', 'c')",
        "select private.release_hold(gen_random_uuid())",
        "select from resguardo.retention_policies",
        "select from resguardo.retention_approvals",
        "select private.approve_policy(0)",
        "select private.reject_policy(0)",
        "select private.preview_policy(0)",
        "select private.report_storage()",
        "select private.report_costs(date '2026-01-01', date '2026-02-01', 'MONTH')",
        "select private.lift_language_budget(gen_random_uuid())",
        "select private.report_coming(30)",
        "select from resguardo.deletions",
        "select from resguardo.certificates",
        "select private.request_deletion(gen_random_uuid(), 'OTHER')",
        "select private.undo_deletion(gen_random_uuid())",
        "select from resguardo.access_requests",
        "select private.file_access_request(gen_random_uuid(), null, current_date, null, null)",
        "select private.read_access_report(null, null, null, null, 26, 'UTC', false, '{}')",
        "select private.read_recording_report(null, null, null, null, 26, 'UTC', false, '{}')",
        "select private.approve_access_request(gen_random_uuid())",
        "select private.withdraw_access_request(gen_random_uuid())",
        "select private.ask_access_review(gen_random_uuid())",
        "select private.deny_access_request(gen_random_uuid(), 'EXCEPTED', null)",
        "select private.extend_access_request(gen_random_uuid(), 30, 'VOLUME')",
        "select private.record_access_review(gen_random_uuid(), gen_random_uuid(), 'UPHELD')",
        "select private.reveal_export_secret(gen_random_uuid())",
    ),
    "patient": (
        "select from resguardo.patients",
        AS_THE_API,
        "select from resguardo.consultations",
        "select from resguardo.participants",
        "select from resguardo.consents",
        "select from resguardo.standing_consents",
        "update resguardo.participants set joined_at = now()",
        "select private.patient()",
        "select private.access_basis(gen_random_uuid())",
        "select private.record_access('consultation.list', 'consultation', null, '{}', '{}', '{}', '{}', null)",
        "select private.record_lookup('viewer.read', 'x', null, null, null, '{}', '{}', '{}', 0, null, null)",
        "select private.lock_consultation(gen_random_uuid())",
        "select private.consultation_id_of('x')",
        "select private.patient_id_of('x')",
        "select private.recording_blockers(gen_random_uuid())",
        "select private.label_of(gen_random_uuid())",
        "select private.has_live_recording(gen_random_uuid())",
        "select private.claim_idempotency_key('startRecording', sha256('k'), sha256('i'))",
        "select private.settle_idempotency_key('startRecording', sha256('k'), sha256('i'), gen_random_uuid())",
        "select private.defer_job('enforce_consent', gen_random_uuid())",
        "select from resguardo.access_requests",
        "select from resguardo.amendments",
        "select private.read_amendment_texts('amendment.list', null, '[]', '{}')",
        "select private.request_amendment(gen_random_uuid(), null, 'RECORD', current_date, false, '', '')",
        "select private.answer_amendment(gen_random_uuid(), 'DISAGREEMENT', '', '')",
        "select private.include_amendment(gen_random_uuid())",
        "select private.store_amendment_text(gen_random_uuid(), '')",
        "select from resguardo.accounting_requests",
        "select private.file_accounting_request(null, null, null, null)",
        "select private.withdraw_accounting_request(gen_random_uuid())",
        "select private.file_access_request(null, null, null, null, null)",
        "select private.read_access_report(null, null, null, null, 26, 'UTC', false, '{}')",
        "select private.read_recording_report(null, null, null, null, 26, 'UTC', false, '{}')",
        "select private.withdraw_access_request(gen_random_uuid())",
        "select private.ask_access_review(gen_random_uuid())",
        "select private.release_export_key(gen_random_uuid())",
    ),
}
PERSON = {"clinician": "ana", "compliance": "carla", "patient": "paula"}


@dataclass(frozen=True)
class Broken:
    """An invalid session. Before the test, a superuser runs the statement `prepare` with the person's id, which
    makes the session invalid.
    """

    name: str
    sqlstate: str
    prepare: LiteralString | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    roles: tuple[str, ...] = ("clinician", "compliance", "patient")
    take: str | None = None


STAFF = ("clinician", "compliance")
BROKEN = (
    Broken("session deleted", "RG401", "delete from auth.sessions where user_id = %s"),
    Broken("every session of the project deleted", "RG401", "delete from auth.sessions where %s is not null"),
    Broken("session of another user", "RG401", claims={"session_id": str(id_of("pablo session"))}),
    Broken("session that never was", "RG401", claims={"session_id": str(id_of("no session"))}),
    Broken("no session named", "RG401", claims={"session_id": None}),
    Broken("session past its end", "RG401", "update auth.sessions set not_after = now() where user_id = %s"),
    Broken(
        "banned", "RG401", "update auth.users set banned_until = now() + interval '1 second' where id = %s"
    ),
    Broken("deleted user", "RG401", "update auth.users set deleted_at = now() where id = %s"),
    Broken("user row gone", "RG401", "delete from auth.users where id = %s"),
    Broken(
        "suspended",
        "RG401",
        "update resguardo.staff set status = 'suspended', suspended_at = now() where user_id = %s",
        roles=STAFF,
    ),
    Broken("no second factor", "RG403", claims={"aal": "aal1"}, roles=STAFF),
    Broken("no level named", "RG403", claims={"aal": None}, roles=STAFF),
    Broken(
        "second factor claimed of a session without one",
        "RG401",
        "update auth.sessions set aal = 'aal1' where user_id = %s",
    ),
    Broken(
        "second factor claimed of a session with none named",
        "RG401",
        "update auth.sessions set aal = null where user_id = %s",
    ),
    Broken(
        "session of an OAuth client",
        "RG401",
        "update auth.sessions set oauth_client_id = gen_random_uuid() where user_id = %s",
    ),
    Broken("session of an empty scope", "RG401", "update auth.sessions set scopes = '' where user_id = %s"),
    Broken("a nameless client's claims", "RG401", claims={"client_id": None}),
    Broken(
        "no MAC where it is required",
        "RG401",
        "update private.session_mac_rule set is_required = %s is not null",
    ),
    Broken("staff no more", "RG403", "delete from resguardo.staff where user_id = %s", roles=("compliance",)),
    Broken("a doctor's claims in this role", "RG403", take="ana", roles=("compliance", "patient")),
    Broken("a patient's claims in this role", "RG403", take="paula", roles=STAFF),
    Broken("no claims at all", "RG401", take=""),
)


@pytest.fixture(scope="module", params=["full", "empty"])
def practice(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Database]:
    with cluster.clone("newer") as database:
        seed(database.superuser_url)
        if request.param == "empty":
            with superuser(database) as connection:
                connection.execute("truncate resguardo.consultations, private.usage cascade")
                connection.execute("analyze")
        yield database


@pytest.fixture(scope="module")
def connection(practice: Database) -> Iterator[Connection]:
    """Return a superuser's connection, with which a test ends a person's session and then takes that person's role,
    in one transaction that is rolled back.
    """
    with psycopg.connect(practice.superuser_url, autocommit=True) as connected:
        yield connected


@pytest.fixture
def is_empty(connection: Connection) -> bool:
    return value(connection, "select not exists (select from resguardo.consultations)") is True


CASES = [
    pytest.param(
        role,
        broken,
        statement,
        id=f"{broken.name}-{statement[:60]}-{role}".replace(" ", "_"),
    )
    for role, statements in STATEMENTS.items()
    for broken in BROKEN
    if role in broken.roles
    for statement in statements
]


@pytest.mark.parametrize(("role", "broken", "statement"), CASES)
def test_law_4_session_over_is_refused_by_every_statement(
    connection: Connection, is_empty: bool, role: str, broken: Broken, statement: LiteralString
) -> None:
    with connection.transaction(force_rollback=True):
        if broken.prepare:
            connection.execute(broken.prepare, [id_of(PERSON[role])])
        claims = {} if broken.take == "" else {**claims_of(broken.take or PERSON[role]), **broken.claims}
        _become(connection, role, claims)
        state, _, rows = outcome(connection, statement)
    if is_empty and _is_bare(statement) and not state:
        assert rows == 0
    else:
        assert state == broken.sqlstate


def _is_bare(statement: str) -> bool:
    return statement.startswith(("select from resguardo.", "update resguardo."))


@pytest.mark.parametrize(("role", "statement"), [(r, s) for r, many in STATEMENTS.items() for s in many])
def test_law_4_the_same_statement_is_not_over_for_a_live_session(
    connection: Connection, role: str, statement: LiteralString
) -> None:
    with connection.transaction(force_rollback=True):
        _become(connection, role, claims_of(PERSON[role]))
        state, message, _ = outcome(connection, statement)
    assert state != "RG401"
    assert message not in ("wrong_role", "second_factor_needed")


def test_law_4_every_relation_and_function_of_people_is_tried(connection: Connection) -> None:
    for role, statements in STATEMENTS.items():
        text = "\n".join(statements)
        relations = {
            name
            for (name,) in connection.execute(
                "select c.oid::regclass::text from pg_class as c where c.relkind in ('r', 'v', 'p')"
                " and c.relnamespace::regnamespace::text in ('resguardo', 'audit', 'private', 'jobs')"
                " and has_any_column_privilege(%s, c.oid, 'select')",
                [role],
            )
        }
        assert relations == set(re.findall(r"from (resguardo\.\w+)", text))
        functions = {
            name
            for (name,) in connection.execute(
                "select p.proname from pg_proc as p where p.pronamespace = 'private'::regnamespace"
                " and has_function_privilege(%s, p.oid, 'execute')",
                [role],
            )
        }
        assert functions - UNCHECKED == set(re.findall(r"private\.(\w+)\(", text))


def test_law_4_signing_out_ends_the_next_statement_of_a_transaction_that_runs(
    practice: Database, is_empty: bool
) -> None:
    if is_empty:
        pytest.skip("without rows no policy is asked")
    with psycopg.connect(practice.superuser_url) as auth, refused("RG401", "session_over"):
        auth.execute("set role supabase_auth_admin")
        with psycopg.connect(practice.api_url) as mine:
            begin_as(mine, claims_of("bruno"))
            mine.execute("select from resguardo.consultations")
            auth.execute("delete from auth.sessions where user_id = %s", [id_of("bruno")])
            auth.commit()
            mine.execute("select from resguardo.consultations")


def _become(connection: Connection, role: str, claims: dict[str, Any]) -> None:
    connection.execute(
        "select private.describe_request(%s, gen_random_uuid(), null, null, 5000)",
        [Jsonb(claims) if claims else None],
    )
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
