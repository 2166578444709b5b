"""Shows how the doctor checks the draft of a note and signs it."""

from typing import Any

from devstack import documents
from devstack.api_client import ApiClient
from devstack.demo.insights import report_line
from devstack.demo.report import require
from devstack.demo.visit import Visit


async def sign_note(visit: Visit, doctor: ApiClient, recording_id: str) -> None:
    """Sign the draft of the note with a session whose TOTP is fresh. An empty draft, such as that of a recording of
    noise, is not signed. Raises DemoFailed.
    """
    scene = visit.scene
    draft = (await doctor.ask(documents.NOTE_DRAFT, id=recording_id))["noteDraft"]
    if not any(section["lines"] for section in draft["sections"]):
        scene.audience.on_line("the draft of the note is empty, so the doctor does not sign it")
        return
    async with scene.step(
        "the doctor resolves the flags of the note's draft, and signs the note with a fresh TOTP"
    ):
        draft = await _keep_flags(doctor, recording_id, draft)
        signed = await _sign(doctor, recording_id, draft["version"])
        require(signed["noteDraft"]["isSigned"], "the draft is not signed")
    scene.report.note = {
        **{name: signed["signature"][name] for name in ("version", "sha256")},
        "signed_at": signed["signature"]["signedAt"],
        "sections": {
            section["section"]: [_report_line(line) for line in section["lines"]]
            for section in draft["sections"]
        },
    }
    scene.audience.on_line(f"SHA-256 of the signed note: {signed['signature']['sha256']}")


def _report_line(line: Any) -> dict[str, Any]:
    return report_line({**line, "flags": [flag["flag"] for flag in line["flags"]]})


async def _keep_flags(doctor: ApiClient, recording_id: str, draft: Any) -> Any:
    """Confirm each flagged line, and return the draft without an open flag."""
    while opened := _open_flags(draft):
        number, flag = opened[0]
        kept = {
            "recordingId": recording_id,
            "lineNumber": number,
            "flag": flag,
            "basedOnVersion": draft["version"],
        }
        draft = (await doctor.ask(documents.KEEP_NOTE_FLAG, kept=kept))["keepNoteFlag"]["noteDraft"]
    return draft


def _open_flags(draft: Any) -> list[tuple[int, str]]:
    return [
        (line["number"], flag["flag"])
        for section in draft["sections"]
        for line in section["lines"]
        for flag in line["flags"]
        if flag["resolution"] is None
    ]


async def _sign(doctor: ApiClient, recording_id: str, version: int) -> Any:
    signed = {"recordingId": recording_id, "basedOnVersion": version}
    return (await doctor.ask(documents.SIGN_NOTE, signed=signed))["signNote"]
