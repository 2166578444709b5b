"""Reads the audit log as a compliance officer, and checks that the log contains every action and no content of the
recordings.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from devstack import documents
from devstack.api_client import ApiClient
from devstack.demo.report import require
from devstack.demo.scene import Scene, expect

WRITTEN = (
    ("recording.issue_url", "ALLOWED"),
    ("recording.issue_url", "DENIED"),
    ("recording.start", "FAILED"),
    ("recording.read", "DENIED"),
    ("recording.transition", "ALLOWED"),
    ("recording.watch", "ALLOWED"),
    ("recording.import", "ALLOWED"),
    ("recording.issue_upload_url", "ALLOWED"),
    ("recording.complete_import", "ALLOWED"),
    ("staff.suspend", "ALLOWED"),
    ("sign_in.attempt", "ALLOWED"),
    ("second_factor.verify", "ALLOWED"),
)


async def examine(
    scene: Scene, compliance: ApiClient, recording_id: str, began_at: datetime, looks: Mapping[str, int]
) -> None:
    """Count the actions since `began_at` by action and outcome, and add the counts to the report. Raises
    DemoFailed.

    For each audit action that means a read of the transcript, `looks` contains the number of reads. The audit log
    must contain one row for each read.
    """
    await expect(compliance, "FORBIDDEN", documents.ISSUE_URL, recordingId=recording_id)
    await expect(compliance, "FORBIDDEN", documents.TRANSCRIPT, id=recording_id)
    counted: Counter[tuple[str, str]] = Counter()
    async for event in _audit_events(compliance, began_at):
        counted[event["action"], event["outcome"]] += 1
    for action, outcome in WRITTEN:
        require(counted[action, outcome] > 0, f"{action} {outcome} is missing in the audit log")
    for action, many in looks.items():
        found = counted[action, "ALLOWED"]
        require(found == many, f"{action} is {found} times in the audit log, and was done {many} times")
    for (action, outcome), count in sorted(counted.items()):
        scene.report.audit.setdefault(action, {})[outcome] = count


async def _audit_events(api: ApiClient, since: datetime) -> AsyncIterator[Any]:
    after, has_next = None, True
    while has_next:
        page = (await api.ask(documents.AUDIT_EVENTS, since=since.isoformat(), after=after))["auditEvents"]
        for edge in page["edges"]:
            yield edge["node"]
        after, has_next = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
