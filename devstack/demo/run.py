"""The steps of the demo in order. Each step does what a user or an attacker would do, through the interfaces that
they would use.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx

from devstack import documents
from devstack.demo.clips import make_clip
from devstack.demo.costs import show_costs
from devstack.demo.desk import show_desk
from devstack.demo.downloads import BriefUrl, Downloads
from devstack.demo.examination import examine
from devstack.demo.importing import import_video
from devstack.demo.insights import show_insights
from devstack.demo.intruders import Cast, Intruders
from devstack.demo.keeping import Keeping
from devstack.demo.live import require_in_order, watching
from devstack.demo.notes import sign_note
from devstack.demo.proving import prove, prove_evidence
from devstack.demo.report import Login, Report
from devstack.demo.scene import Audience, Scene, expect
from devstack.demo.sources import Sources
from devstack.demo.transcript import show_transcript
from devstack.demo.visit import Visit
from devstack.people import People, Person
from devstack.stack import Stack


async def run_demo(stack: Stack, sources: Sources, report: Report, audience: Audience) -> None:
    """Run the demo's consultation on a running dev stack. Raises DemoFailed, Refused."""
    async with httpx.AsyncClient(timeout=60) as http:
        await _run(Scene(stack, sources, http, report, audience, People(stack)))


async def _run(scene: Scene) -> None:
    began_at = datetime.now(UTC)
    async with scene.step("the staff and the patient get their logins"):
        cast, patient = await _hire(scene.people)
        scene.report.logins = _logins(scene.people, doctor=cast.doctor, officer=cast.officer, patient=patient)
    async with scene.step("the doctor signs in with password and TOTP"):
        session = await scene.people.sign_in(cast.doctor)
        api, scene.report.token = scene.client(session), session.access_token
    async with scene.step("the doctor registers the consultation under its external id"):
        visit = await Visit.register(scene, api, patient)
        scene.report.consultation = {"id": visit.id, "external_id": visit.external_id}
    async with scene.step("the API refuses to record without consent"):
        await expect(api, "CONFLICT", documents.START_RECORDING, consultationId=visit.id)
    patient_api = await scene.sign_in(patient, with_totp=False)
    async with scene.step("the patient and the doctor consent"):
        await visit.consent(patient_api)
    async with scene.step("the doctor and the patient join with LiveKit tokens"):
        await visit.join(patient_api)
    recording = await _record(scene, visit)
    brief, downloads = await _download(scene, visit, recording)
    looks = await show_transcript(visit, recording["id"])
    if scene.report.turns:
        looks = {**looks, **await show_insights(visit, recording["id"])}
        await sign_note(visit, await scene.sign_in(cast.doctor), recording["id"])
    await make_clip(visit, recording["id"])
    async with scene.step("the doctor switches transcription off for the rest of this consultation"):
        await visit.switch_words_off()
    async with scene.step(
        "a stranger enters the room: the next recording stops, and the doctor sees the reason"
    ):
        ended_early = await visit.end_by_stranger()
    async with scene.step("the doctor imports a recording that was made elsewhere; it becomes READY"):
        imported = await import_video(visit)
    await _keep(scene, visit, imported["id"], cast)
    async with scene.step("the object store refuses a URL that has expired"):
        await downloads.refuse_expired(brief)
    session = await Intruders(scene, recording["id"]).try_all(cast, patient_api)
    scene.report.token = session.access_token
    async with scene.step("the recording that stopped for the stranger keeps its sound and its picture"):
        await visit.wait_for(ended_early, "READY")
        await visit.wait_for_speakers(ended_early)
    async with scene.step("the recording that stopped for the stranger is not transcribed"):
        await visit.require_wordless(ended_early)
    async with scene.step("the compliance officer reads all this in the audit log, and gets no URL"):
        officer = await scene.sign_in(cast.officer)
        await examine(scene, officer, recording["id"], began_at, looks)
    await show_costs(scene, officer)
    await show_desk(visit, recording["id"], cast, patient_api)
    async with scene.step(
        "the audit log proves when the recording began: the auditor's verifier accepts its receipt"
    ):
        await prove(scene)
    async with scene.step("an evidence pack is written for an auditor, who verifies it offline"):
        await prove_evidence(scene, began_at)


async def _hire(people: People) -> tuple[Cast, Person]:
    """Create the staff and a patient concurrently."""
    roles = ("clinician", "clinician", "clinician", "compliance", "compliance")
    *staff, patient = await asyncio.gather(*(people.hire(role) for role in roles), people.patient())
    return Cast(*staff), patient


def _logins(people: People, **persons: Person) -> dict[str, Login]:
    """Return the logins that a web developer needs."""
    return {
        name: Login(person.email, person.password, people.authenticator_uri(person))
        for name, person in persons.items()
    }


async def _keep(scene: Scene, visit: Visit, recording_id: str, cast: Cast) -> None:
    """Run the last steps in the life of one recording: from a legal hold to the certificate of its destruction."""
    officer, second = await scene.sign_in(cast.officer), await scene.sign_in(cast.second_officer)
    keeping = Keeping(scene, visit.api, recording_id)
    async with scene.step("a legal hold: the doctor cannot delete, and only a second officer releases it"):
        await keeping.hold(visit.id, officer, second)
    async with scene.step("the doctor deletes the import, and cancels the deletion within the grace period"):
        await keeping.delete_and_undo()
    async with scene.step("after its grace period the import is destroyed, and its certificate verifies"):
        await keeping.destroy(officer)


async def _record(scene: Scene, visit: Visit) -> Any:
    """Run one recording from its start to its end, while a simulated web page subscribes to its changes."""
    async with watching(visit.api, visit.id) as page:
        async with scene.step("the doctor starts the recording"):
            recording_id = await visit.start()
        async with scene.step("the doctor stops the recording; LiveKit uploads it; it becomes READY"):
            await visit.stop(recording_id)
        async with scene.step("the doctor's web page received each state through its subscription"):
            require_in_order(await page.states_until_ready(recording_id))
    async with scene.step("the separate recordings of the two microphones become READY too"):
        return await visit.wait_for_speakers(recording_id)


async def _download(scene: Scene, visit: Visit, recording: Any) -> tuple[BriefUrl, Downloads]:
    """Download the video and the sound files, and check that altered URLs fail. The URL that the function returns
    has not expired yet; a later step checks that it fails after its expiry.
    """
    downloads = Downloads(scene, visit.api, recording)
    async with scene.step(
        "the doctor lists the recordings and downloads this one; its bytes equal the source's"
    ):
        url = await downloads.take_video()
    async with scene.step("the doctor downloads the sound of each microphone"):
        await downloads.take_speakers()
    async with scene.step("the object store refuses the URL after one byte was changed"):
        await downloads.refuse_altered(url)
    return downloads.sign_briefly(url), downloads
