"""The report of a demo: its steps, the recording and its transcript, and the counts of the audit log."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


class DemoFailed(Exception):  # noqa: N818 - it reads as what happened
    """A check of the demo failed."""


@dataclass(frozen=True)
class Step:
    """A step of the demo, whether it succeeded, and its duration."""

    name: str
    ok: bool
    milliseconds: int


@dataclass(frozen=True)
class SpokenTurn:
    """A turn of one speaker in the transcript, with its times in seconds from the recording's beginning. `speaker`
    is doctor, patient or unknown. `number` is the one by which insights cite the turn.
    """

    number: int
    start: float
    end: float
    speaker: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class Login:
    """A login of the demo, with which a web developer can sign in. `otpauth` is the URI that adds the login's
    second factor to an authenticator app.
    """

    email: str
    password: str = field(repr=False)
    otpauth: str = field(repr=False)


@dataclass(frozen=True)
class Project:
    """The addresses that a web app needs, and the origins that it may be served from."""

    graphql_url: str
    subscriptions_url: str
    supabase_url: str
    publishable_key: str
    bucket_url: str
    livekit_url: str
    allowed_origins: tuple[str, ...]


@dataclass
class Report:
    """The events of the demo, as `--json` writes them, and the data for a web app. The demo shows the doctor's
    access token only in the terminal.

    `project` is None until the stack runs. `heard_with` (the name of the speech recogniser) is None until the
    transcription. `insights` is None and `answers` is empty if nobody speaks, and `note` is None if its draft is
    empty. `logins` contains the logins of the doctor, the compliance officer and the patient.
    """

    project: Project | None = None
    logins: dict[str, Login] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    consultation: dict[str, object] = field(default_factory=dict)
    recording: dict[str, object] = field(default_factory=dict)
    turns: list[SpokenTurn] = field(default_factory=list)
    heard_with: str | None = None
    insights: dict[str, Any] | None = None
    answers: list[dict[str, Any]] = field(default_factory=list)
    note: dict[str, Any] | None = None
    clip: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None
    audit: dict[str, dict[str, int]] = field(default_factory=dict)
    token: str = field(default="", repr=False)

    def to_json(self) -> str:
        """Return the report without the doctor's access token."""
        whole = {
            **(asdict(self.project) if self.project else {}),
            "logins": {name: asdict(login) for name, login in self.logins.items()},
            "steps": [asdict(step) for step in self.steps],
            "consultation": self.consultation,
            "recording": self.recording,
            "transcript": {"heard_with": self.heard_with, "turns": [asdict(turn) for turn in self.turns]},
            "insights": self.insights,
            "answers": self.answers,
            "note": self.note,
            "clip": self.clip,
            "cost": self.cost,
            "audit": self.audit,
        }
        return json.dumps(whole, indent=2)


def require(holds: bool, what: str) -> None:
    """Raise DemoFailed with the text `what` if the condition `holds` is false."""
    if not holds:
        raise DemoFailed(what)
