"""Demonstrates shares and the emergency access, and the reports that compliance officers and the patient read about
them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from devstack import documents
from devstack.api_client import ApiClient
from devstack.demo.intruders import Cast
from devstack.demo.report import require
from devstack.demo.scene import expect
from devstack.demo.visit import Visit

EMERGENCY_TEXT: Final = "opened your record in an emergency"
"""The words of the patient's report for an emergency access (app/texts/patient_reports.toml)."""


async def show_desk(visit: Visit, recording_id: str, cast: Cast, patient: ApiClient) -> None:
    """Run the demo's steps with a colleague, a compliance officer and the patient. Raises DemoFailed."""
    scene = visit.scene
    colleague, officer = await scene.sign_in(cast.stranger), await scene.sign_in(cast.officer)
    desk = Desk(visit, recording_id, str(cast.stranger.user_id), colleague, officer)
    async with scene.step(
        "the doctor shares the consultation: a colleague watches it, and downloads nothing"
    ):
        await desk.share()
    async with scene.step("the colleague breaks the glass in an emergency: an alert and a case open at once"):
        case = await desk.break_glass()
    for alert in desk.alerts:
        scene.audience.on_line(f"{alert['kind']}: {alert['message']}")
    async with scene.step("the patient does not read about the emergency while the case is open"):
        require(not _emergencies(await _entries(patient)), "the patient reads about an open case")
    async with scene.step("the compliance officer reviews the case, and decides that the access was right"):
        await desk.decide(case)
    async with scene.step("the patient reads who looked at the recording, when and why"):
        entries = await _entries(patient)
        require(bool(_emergencies(entries)), "the patient does not read about the emergency")
        require(any(entry["isRefused"] for entry in entries), "the patient reads of no refusal")
    for entry in _emergencies(entries)[:1] + [one for one in entries if one["isRefused"]][:1]:
        scene.audience.on_line(f"{entry['when']}: {entry['text']} {entry['refusal'] or entry['why']}")


@dataclass
class Desk:
    """The colleague and the officer of the demo, and the alerts that the officer has read."""

    visit: Visit
    recording_id: str
    colleague_id: str
    colleague: ApiClient
    officer: ApiClient
    alerts: tuple[Any, ...] = ()

    async def share(self) -> None:
        """Share the consultation with the colleague, check what the colleague may do, and end the share."""
        share = {
            "consultationId": self.visit.id,
            "colleagueId": self.colleague_id,
            "purpose": "COVERAGE",
            "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }
        made = (await self.visit.api.ask(documents.SHARE, share=share))["shareConsultation"]["share"]
        await self._require_basis("SHARED")
        await self.visit.api.ask(documents.END_SHARE, id=made["id"])
        await expect(self.colleague, "NOT_FOUND", documents.RECORDING_STATUS, id=self.recording_id)

    async def break_glass(self) -> str:
        """Let the colleague use the emergency access. Return the id of the review case about it. Raises DemoFailed
        unless the officer finds an open alert and an open case about it.
        """
        asked = {"patient": self.visit.patient_external_id}
        access = (await self.colleague.ask(documents.BREAK_GLASS, **asked))["breakGlass"]["emergencyAccess"]
        await self._require_basis("EMERGENCY")
        found = (await self.officer.ask(documents.ALERTS))["alerts"]["edges"]
        self.alerts = tuple(edge["node"] for edge in found if access["id"] in edge["node"]["entityIds"])
        require(len(self.alerts) == 1, f"{len(self.alerts)} alerts are open about {access['id']}")
        listed = (await self.officer.ask(documents.REVIEW_CASES))["reviewCases"]["edges"]
        cases = [
            edge["node"]["id"]
            for edge in listed
            if edge["node"]["rule"] == "BREAK_GLASS" and edge["node"]["subject"] == {"id": self.colleague_id}
        ]
        require(len(cases) == 1, f"{len(cases)} cases are open about the emergency access")
        return str(cases[0])

    async def decide(self, case: str) -> None:
        """Record the officer's disposition of the case."""
        found = {"reviewCaseId": case, "disposition": "APPROPRIATE", "text": "The patient was in danger."}
        decided = (await self.officer.ask(documents.RECORD_DISPOSITION, found=found))["recordDisposition"]
        require(decided["reviewCase"]["disposition"] == "APPROPRIATE", "the case is not decided")

    async def _require_basis(self, basis: str) -> None:
        """Check that the colleague sees the consultation for this reason, and watches but does not download the
        recording.
        """
        seen = (await self.colleague.ask(documents.ACCESS_BASIS, id=self.visit.id))["consultation"]
        require(seen["accessBasis"] == basis, f"the colleague sees it as {seen['accessBasis']}")
        await self.colleague.ask(documents.ISSUE_PLAYBACK, recordingId=self.recording_id)
        await expect(self.colleague, "NOT_FOUND", documents.ISSUE_URL, recordingId=self.recording_id)


async def _entries(patient: ApiClient) -> list[Any]:
    found = (await patient.ask(documents.ACCESS_ENTRIES))["accessEntries"]["edges"]
    return [edge["node"] for edge in found]


def _emergencies(entries: list[Any]) -> list[Any]:
    return [entry for entry in entries if EMERGENCY_TEXT in entry["text"]]
