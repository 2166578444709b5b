"""The sections of an evidence pack. Each section is one function, which writes the files of the section and returns its
description.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from app.audit.verification.checkpoints import compose_origin
from app.audit.verification.receipts import EVENT_EXTENSION, PROOF_EXTENSION
from app.bucket.object_keys import compose_audit_prefix
from app.errors import AppError
from app.evidence import store
from app.evidence.files import PackWriter, PublishedLog, is_plain_key
from app.evidence.model import Range, SectionReport
from app.evidence.receipts import find_receipt
from app.packaged import repository_path
from app.postgres.database import Database

OnProgress = Callable[[str, int, int | None], None]
Collect = Callable[["Sources"], Awaitable[SectionReport]]

_CONSENT_TEXTS: Final = Path(__file__).parents[1] / "texts" / "consent"


@dataclass(frozen=True)
class Sources:
    """The sources that the sections read, and the files that they write. `drills` are reports of `resguardo drill
    restore`.
    """

    database: Database
    log: PublishedLog
    wanted: Range
    deployment: str
    policy: str
    drills: Sequence[Path]
    writer: PackWriter
    on_progress: OnProgress


async def collect_policies(sources: Sources) -> SectionReport:
    """Copy the files of the policies and the consent texts, and list the versions of the retention policy."""
    files = 0
    for name, folder in (("policies", repository_path("policies")), ("consent-texts", _CONSENT_TEXTS)):
        for path in sorted(folder.glob("**/*")):
            if path.is_file() and path.suffix in (".toml", ".md", ".sql", ".json"):
                sources.writer.write(
                    f"policies/{name}/{path.relative_to(folder).as_posix()}", path.read_bytes()
                )
                files += 1
    versions = [
        one async for one in store.read_section(sources.database, "retention_policies", sources.wanted)
    ]
    sources.writer.write_json("policies/retention-versions.json", versions)
    return SectionReport(
        "Policies and their versions",
        "164.316(b)(1), 164.312(b)",
        "policies/",
        f"{files} files of the installed policies, and "
        + _count(
            len(versions), "version of the retention policy", "no version of the retention policy exists"
        ),
    )


async def collect_coverage(sources: Sources) -> SectionReport:
    """List every kind of audit event with the time of the newest event."""
    async with sources.database.as_service("make_evidence") as tx:
        rows = await store.read_coverage(tx, sources.wanted)
    sources.writer.write_json(
        "coverage.json",
        [
            {
                "action": row["action"],
                "operation": row["operation"],
                "last_seen_at": _time(row["last_seen_at"]),
                "last_seen_in_range_at": _time(row["last_seen_in_range_at"]),
            }
            for row in rows
        ],
    )
    seen = sum(row["last_seen_in_range_at"] is not None for row in rows)
    return SectionReport(
        "Coverage: every kind of event, and when it was last seen",
        "164.312(b)",
        "coverage.json",
        f"{len(rows)} kinds of events are recorded. {seen} of them occurred in the range of time. A kind with "
        "`last_seen_at` null has never occurred.",
    )


async def collect_rows(
    sources: Sources, *, section: str, title: str, rule: str, thing: str, nothing: str
) -> SectionReport:
    """Write the rows of a section of the database as one JSON file."""
    name = f"{section.replace('_', '-')}.json"
    if not await store.has_section(sources.database, section):
        return SectionReport(title, rule, "-", "Not built: this version has no such part.", is_built=False)
    rows = [one async for one in store.read_section(sources.database, section, sources.wanted)]
    sources.writer.write_json(name, rows)
    return SectionReport(title, rule, name, _count(len(rows), thing, nothing))


async def collect_sealed(
    sources: Sources, *, section: str, title: str, rule: str, thing: str, nothing: str
) -> SectionReport:
    """Write the rows of a section. For each row with a sealed document, also write the document and its receipt. The
    document is the file whose SHA-256 is the digest of the proven event.
    """
    folder = section.replace("_", "-")
    rows: list[dict[str, Any]] = []
    unproven = 0
    async for row in store.read_section(sources.database, section, sources.wanted):
        document = row.pop("document")
        rows.append(row)
        if document is not None:
            sources.writer.write(f"{folder}/{row['id']}.document.json", document.encode())
            unproven += not await _write_receipt(sources, UUID(row["event_id"]), f"{folder}/{row['id']}")
    sources.writer.write_json(f"{folder}/index.json", rows)
    sentence = _count(len(rows), thing, nothing)
    if unproven:
        sentence += (
            f" {unproven} of them have no receipt (not sealed, not cosigned by a witness, or redacted)."
        )
    return SectionReport(title, rule, f"{folder}/", sentence)


async def collect_certificates(sources: Sources) -> SectionReport:
    """Write the certificates of destruction, byte for byte as they were signed."""
    count = 0
    async for row in store.read_section(sources.database, "certificates", sources.wanted):
        name = f"certificates/{row['recording']}-{row['number']}.json"
        sources.writer.write(name, row["document"].encode())
        count += 1
        sources.on_progress("certificates", count, None)
    return SectionReport(
        "Certificates of destruction",
        "164.310(d)(2)(i)",
        "certificates/",
        _count(count, "certificate", "no recording was destroyed in the range of time"),
    )


async def collect_drills(sources: Sources) -> SectionReport:
    """Copy the reports of restore drills."""
    for number, path in enumerate(sources.drills, 1):
        sources.writer.write(f"drills/{number:03}-{path.name}", path.read_bytes())
    return SectionReport(
        "Restore drills",
        "164.308(a)(7)(ii)(B), (D)",
        "drills/",
        _count(len(sources.drills), "report", "no report of a drill was given with --drill"),
    )


async def collect_log(sources: Sources) -> SectionReport:
    """Copy the published checkpoints and tiles of the logs of the years in the range of time."""
    count = skipped = 0
    for year in range(sources.wanted.since.year, sources.wanted.until.year + 1):
        prefix = compose_audit_prefix(compose_origin(sources.deployment, year))
        async for key in sources.log.keys(prefix):
            if is_plain_key(key):
                sources.writer.write(f"log/{key}", await sources.log.read(key))
                count += 1
                sources.on_progress("published log", count, None)
            else:
                skipped += 1
    sentence = _count(count, "published file of the log", "nothing of the log is published for these years")
    if skipped:
        sentence += f" {skipped} objects of the bucket have keys that no file can have, and are left out."
    return SectionReport("Checkpoints and tiles of the audit log", "164.312(c)(1), (c)(2)", "log/", sentence)


async def collect_verifier(sources: Sources) -> SectionReport:
    """Copy the verifier, and write the policy with the keys of the log."""
    sources.writer.write("verify_audit.py", repository_path("tools/verify_audit.py").read_bytes())
    sources.writer.write("log-policy.txt", sources.policy.encode())
    return SectionReport(
        "Verifier and keys",
        "164.312(c)(2)",
        "verify_audit.py, log-policy.txt",
        "The verifier needs Python 3.11 and the package `cryptography`, and no network. Compare log-policy.txt with a "
        "copy that you have from another source: the pack alone cannot prove its own keys.",
    )


SECTIONS: Final[tuple[tuple[str, Collect], ...]] = (
    ("policies", collect_policies),
    ("coverage", collect_coverage),
    (
        "review cases",
        partial(
            collect_rows,
            section="review_cases",
            title="Reviews of activity: cases and dispositions",
            rule="164.308(a)(1)(ii)(D), 164.312(b)",
            thing="case",
            nothing="no case was opened in the range of time",
        ),
    ),
    (
        "attestations",
        partial(
            collect_sealed,
            section="attestations",
            title="Attestations of the monthly review",
            rule="164.308(a)(1)(ii)(D)",
            thing="attestation",
            nothing="nobody attested a review in the range of time",
        ),
    ),
    (
        "breach assessments",
        partial(
            collect_sealed,
            section="breach_assessments",
            title="Assessments of possible breaches, with their notices",
            rule="164.402 to 164.414",
            thing="assessment",
            nothing="no assessment was opened in the range of time",
        ),
    ),
    (
        "sanctions",
        partial(
            collect_rows,
            section="sanctions",
            title="Sanctions",
            rule="164.530(e), 164.308(a)(1)(ii)(C)",
            thing="sanction",
            nothing="no sanction was recorded in the range of time",
        ),
    ),
    (
        "emergency accesses",
        partial(
            collect_rows,
            section="emergency_accesses",
            title="Emergency accesses (break-glass)",
            rule="164.312(a)(2)(ii)",
            thing="emergency access",
            nothing="nobody used an emergency access in the range of time",
        ),
    ),
    (
        "staff",
        partial(
            collect_rows,
            section="staff",
            title="Members of staff, with their roles",
            rule="164.308(a)(3), 164.308(a)(4)",
            thing="member",
            nothing="no member of staff existed before the end of the range of time",
        ),
    ),
    (
        "access reviews",
        partial(
            collect_rows,
            section="access_reviews",
            title="Access reviews",
            rule="164.308(a)(4)(ii)(C)",
            thing="review",
            nothing="no access review was started in the range of time",
        ),
    ),
    (
        "proposals of officers",
        partial(
            collect_rows,
            section="officer_proposals",
            title="Changes that two officers decided",
            rule="164.308(a)(3), 164.308(a)(4)",
            thing="proposal",
            nothing="no such change was proposed in the range of time",
        ),
    ),
    (
        "disclosures",
        partial(
            collect_rows,
            section="disclosures",
            title="Recorded disclosures, without recipients",
            rule="164.528",
            thing="disclosure",
            nothing="no disclosure was recorded in the range of time",
        ),
    ),
    (
        "agreements",
        partial(
            collect_rows,
            section="vendor_agreements",
            title="Agreements with business associates",
            rule="164.308(b), 164.504(e)",
            thing="agreement",
            nothing="no agreement was recorded before the end of the range of time",
        ),
    ),
    (
        "rules of the review",
        partial(
            collect_rows,
            section="review_policies",
            title="Versions of the rules of the review",
            rule="164.312(b)",
            thing="version",
            nothing="no version of the rules was proposed before the end of the range of time",
        ),
    ),
    (
        "alerts",
        partial(
            collect_rows,
            section="alerts",
            title="Alerts",
            rule="164.308(a)(6)(ii)",
            thing="alert",
            nothing="no alert was opened in the range of time",
        ),
    ),
    ("drills", collect_drills),
    ("certificates", collect_certificates),
    ("published log", collect_log),
    ("verifier", collect_verifier),
)


async def _write_receipt(sources: Sources, event_id: UUID, name: str) -> bool:
    """Write the receipt of an event, and return whether the receipt exists."""
    try:
        receipt = await find_receipt(sources.database, event_id, sources.policy)
    except AppError:
        return False
    if receipt is None:
        return False
    sources.writer.write(f"{name}{PROOF_EXTENSION}", receipt.proof)
    sources.writer.write(f"{name}.event{EVENT_EXTENSION}", receipt.event)
    return True


def _count(count: int, thing: str, nothing: str) -> str:
    if count == 0:
        return f"Nothing: {nothing}."
    return f"1 {thing}." if count == 1 else f"{count} x {thing}."


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
