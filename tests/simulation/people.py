"""The actions of the doctors, patients and compliance officers in a simulated practice. The people use the services
in their own sessions. The simulation reports the services' answers to the oracle.
"""

from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from uuid import UUID

from app.access_requests.model import AccessRequestStatus, DenialGround
from app.deletions.model import DeletionReason
from app.errors import AppError, Conflict
from app.holds.model import HoldOrder, Scope
from app.postgres.references import ConsultationBy, PatientBy, TimeRange
from app.postgres.selection import Selection
from app.retention.model import PolicyStatus
from tests.simulation.facts import Hold, Recording, Terms
from tests.simulation.harness import Person, SimulationHarness
from tests.simulation.rounds import export

KINDS = ("follow_up", "follow_up", "follow_up", "therapy", "surgery")
Later = Callable[[timedelta, Callable[[], Awaitable[None]]], None]
_DAY = timedelta(days=1)
_ENDS = ("READY",) * 17 + ("FAILED", "LOST", "ABORTED")
_SOUNDS: tuple[tuple[str, ...], ...] = (
    *[()] * 9,
    ("READY",),
    ("READY", "LOST"),
    ("READY", "FAILED", "READY", "LOST", "READY", "ABORTED", "READY"),
)
_ID = Selection.of("id")
_PATIENCE = 6


class People:
    """The doctors, patients and compliance officers of the practice. `later` schedules an action."""

    def __init__(self, harness: SimulationHarness, later: Later) -> None:
        self.harness = harness
        self.dice = harness.dice
        self.later = later
        self._patients: list[tuple[UUID, date | None]] = []
        self._logins: dict[UUID, Person] = {}
        self._policies = 0

    async def visit(self) -> None:
        """Let a doctor hold a consultation with a new or a known patient. The doctors record most consultations,
        and record some of them twice.
        """
        harness, now = self.harness, self.harness.oracle.now
        if self._patients and self.dice.random() < 0.3:
            patient, birth_date = self.dice.choice(self._patients[-200:])
        else:
            patient, birth_date = harness.uuid(), self._birth_date(now.date())
            self._patients.append((patient, birth_date))
            if self.dice.random() < 0.25:
                self._logins[patient] = await harness.person()
        kind = self.dice.choice(KINDS)
        consultation = await harness.consult(kind, patient, birth_date, self._logins.get(patient))
        for _ in range(self.dice.choice((0, *(1,) * 17, 2, 2))):
            recording = Recording(harness.uuid(), consultation, patient, kind, birth_date, now)
            await harness.record(
                recording,
                self.dice.choice(_ENDS),
                sounds=self.dice.choice(_SOUNDS),
                extras=self.dice.random() < 0.1,
            )
            if self.dice.random() < 0.4:
                self._sign_later(recording, 20)

    def _sign_later(self, recording: Recording, days: int) -> None:
        async def sign() -> None:
            if await self.harness.sign(recording) and self.dice.random() < 0.3:
                self._sign_later(recording, 200)

        self.later(self.dice.random() * days * _DAY, sign)

    async def change_policy(self, *, is_first: bool = False) -> None:
        """Let compliance approve a new version of the retention policy. A policy with a shorter retention term
        needs the approval of two officers.
        """
        self._policies += 1
        terms = Terms(
            grace=self.dice.randrange(3, 15),
            default=90 if is_first else self.dice.choice((60, 75, 90, 90, 105, 120)),
            kinds={"surgery": self.dice.choice((150, 180, 210)), "therapy": self.dice.choice((30, 45, 90))},
            minors_until=self.dice.choice((18, 18, 18, 19, None)),
            applies_to_existing=not is_first and self.dice.random() < 0.5,
            notes=250 if is_first else self.dice.choice((220, 250, 250, 300, 365)),
        )
        kept = (await self.harness.proposals.propose(_toml(f"version {self._policies}", terms))).kept
        for officer in self.harness.officers:
            if kept.status is PolicyStatus.PROPOSED:
                kept = (await self.harness.retention.approve(officer.asker, kept.id)).approved.kept
        assert kept.status is PolicyStatus.ACTIVE
        self.harness.oracle.adopted(terms)

    async def hold(self) -> None:
        """Let a compliance officer place a legal hold. Another compliance officer releases the hold later."""
        chosen = self._somebody()
        if chosen is None:
            return
        kind = self.dice.randrange(3)
        if kind == 0:
            await self._place(ConsultationBy(chosen.consultation), self.harness.oracle.moment + 1)
        elif kind == 1:
            await self._place(PatientBy(chosen.patient), self.harness.oracle.moment + 1)
        else:
            since = chosen.created_at - self.dice.random() * _DAY
            scope = TimeRange(since, since + self.dice.choice((1, 1, 3)) * _DAY)
            await self._place(scope, self.harness.oracle.moment + 1)

    async def hold_at_once(self, recording: Recording) -> None:
        """Place a legal hold while a pass of the worker runs. `placeHold` answers whether the destruction of a
        recording had already begun.
        """
        try:
            await self._place(
                ConsultationBy(recording.consultation), self.harness.oracle.moment, is_racing=True
            )
        except AppError:
            return

    async def _place(self, scope: Scope, since: int, *, is_racing: bool = False) -> None:
        placer, releaser = self.dice.sample(self.harness.officers, 2)
        order = HoldOrder(scope, f"matter {self.harness.uuid()}", "custodian")
        _, placed = await self.harness.holds.place(placer.asker, order, _ID)
        came_first = placed.recordings_in_destruction == 0 and placed.covered_recordings > 0
        if is_racing and not came_first:
            since += 1
        days = (
            (scope.since, scope.until)
            if isinstance(scope, TimeRange) and scope.since and scope.until
            else None
        )
        self.harness.oracle.held(
            placed.id,
            Hold(
                since,
                consultation=scope.id if isinstance(scope, ConsultationBy) else None,
                patient=scope.id if isinstance(scope, PatientBy) else None,
                days=days,
                is_racing=is_racing,
            ),
        )

        async def release() -> None:
            await self.harness.holds.release(releaser.asker, placed.id, _ID)
            self.harness.oracle.released(placed.id)

        self.later(self.dice.choice((2, 20, 60, 120, 300)) * self.dice.random() * _DAY, release)

    async def ask_for_copy(self) -> None:
        """Let a patient request a copy of the recordings. A compliance officer decides about the request within
        three weeks.
        """
        known = [one for one in self.harness.oracle.living.values() if one.patient in self._logins]
        if not known:
            return
        chosen = self.dice.choice(known)
        consultation = chosen.consultation if self.dice.random() < 0.6 else None
        asker = self._logins[chosen.patient].asker
        named = None if consultation is None else ConsultationBy(consultation)
        filed = await self.harness.requests.file(asker, named, None, Selection.of("id", "createdAt"))
        if datetime.fromisoformat(filed["created_at"]) != self.harness.oracle.now:
            return  # An equal request is open
        request_id = UUID(filed["id"])
        hold = Hold(self.harness.oracle.moment + 1, consultation=consultation, patient=chosen.patient)
        self.harness.oracle.held(request_id, hold)
        self.later(
            self.dice.uniform(1, 20) * _DAY, lambda: self._decide(request_id, self._logins[chosen.patient])
        )

    async def _decide(self, request_id: UUID, patient: Person) -> None:
        officer, fate = self.dice.choice(self.harness.officers), self.dice.random()
        if fate < 0.2:
            await self._withdraw(request_id, patient)
        elif fate < 0.4:
            await self.harness.requests.deny(officer.asker, request_id, DenialGround.EXCEPTED, None, _ID)
            self.harness.oracle.released(request_id)
        else:
            await self.harness.requests.approve(officer.asker, request_id, _ID)
            await self._export(request_id, patient, 1)

    async def _export(self, request_id: UUID, patient: Person, attempt: int) -> None:
        await self.harness.run("export", export(request_id), may_die=attempt == 1)
        status = await self.harness.value(
            "select status from resguardo.access_requests where id = %s", request_id
        )
        if status == AccessRequestStatus.FULFILLED:
            self.harness.oracle.released(request_id)
        elif attempt == _PATIENCE:
            await self._withdraw(request_id, patient)
        else:
            again = timedelta(hours=attempt)
            self.later(again, lambda: self._export(request_id, patient, attempt + 1))

    async def _withdraw(self, request_id: UUID, patient: Person) -> None:
        await self.harness.requests.withdraw(patient.asker, request_id, _ID)
        self.harness.oracle.released(request_id)

    async def ask_to_delete(self) -> None:
        """Let the doctor request the deletion of a recording, and sometimes undo the request."""
        oracle, chosen = self.harness.oracle, self._somebody()
        if (
            chosen is None
            or oracle.policy is None
            or chosen.begun is not None
            or chosen.undo_until is not None
        ):
            return
        try:
            await self.harness.deletions.request(
                self.harness.doctor.asker, chosen.id, DeletionReason.DUPLICATE
            )
        except Conflict:
            assert oracle.is_held(chosen), "refused, and nothing holds it"
            return
        assert not oracle.is_held(chosen), "taken on, and it is held"
        grace = oracle.policy.grace * _DAY
        oracle.asked(chosen.id, oracle.now + grace)
        if self.dice.random() < 0.5:
            self.later(self.dice.random() * grace, lambda: self._undo(chosen))

    async def _undo(self, recording: Recording) -> None:
        try:
            await self.harness.deletions.undo(self.harness.doctor.asker, recording.id)
        except Conflict:
            return
        self.harness.oracle.undone(recording.id)

    def _somebody(self) -> Recording | None:
        living = self.harness.oracle.living
        return self.dice.choice(list(living.values())) if living else None

    def _birth_date(self, today: date) -> date | None:
        if self.dice.random() < 0.85:
            return None
        return today - timedelta(days=self.dice.randrange(365 * 16, 365 * 19))


def _toml(name: str, terms: Terms) -> str:
    minors = "" if terms.minors_until is None else f"[minors]\nuntil_age_years = {terms.minors_until}\n"
    kinds = "".join(
        f'[[kinds]]\nkinds = ["{kind}"]\nrecording_days = {days}\n' for kind, days in terms.kinds.items()
    )
    return (
        f'name = "{name}"\napplies_to_existing = {str(terms.applies_to_existing).lower()}\n'
        f"[default]\nrecording_days = {terms.default}\nsigned_note_days = {terms.notes}\n"
        f"{minors}[deletion]\ngrace_days = {terms.grace}\n{kinds}"
    )


def spread(
    dice_uniform: Callable[[float, float], float], start: datetime, days: int, many: int
) -> list[datetime]:
    """Return `many` random times within the next `days` days."""
    return sorted(start + dice_uniform(0, days) * _DAY for _ in range(many))
