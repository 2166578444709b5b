"""What a run of the demo leaves behind: its steps, what was recorded and said, and what the audit log counts."""

import json
from dataclasses import asdict, dataclass, field


class DemoFailed(Exception):  # noqa: N818 - it reads as what happened
    """A check of the demo did not hold."""


@dataclass(frozen=True)
class Step:
    """What was done, and how long it took."""

    name: str
    ok: bool
    milliseconds: int


@dataclass(frozen=True)
class SpokenTurn:
    """What somebody said at a stretch: in seconds from the beginning; `speaker` is doctor, patient or unknown."""

    start: float
    end: float
    speaker: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class Login:
    """A login that a web developer may use. `otpauth` is the URI of its second factor for an authenticator app."""

    email: str
    password: str = field(repr=False)
    otpauth: str = field(repr=False)


@dataclass(frozen=True)
class Project:
    """Where a web app finds what it talks to, and which origins it may be served from."""

    graphql_url: str
    subscriptions_url: str
    supabase_url: str
    publishable_key: str
    bucket_url: str
    livekit_url: str
    allowed_origins: tuple[str, ...]


@dataclass
class Report:
    """What happened, as `--json` writes it, and what a web app needs. The token is for the terminal alone.

    `project` is None before the stack runs. `logins` are the doctor's, the officer's and the patient's.
    """

    project: Project | None = None
    logins: dict[str, Login] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    consultation: dict[str, object] = field(default_factory=dict)
    recording: dict[str, object] = field(default_factory=dict)
    turns: list[SpokenTurn] = field(default_factory=list)
    audit: dict[str, dict[str, int]] = field(default_factory=dict)
    token: str = field(default="", repr=False)

    def to_json(self) -> str:
        """Without the token."""
        whole = {
            **(asdict(self.project) if self.project else {}),
            "logins": {name: asdict(login) for name, login in self.logins.items()},
            "steps": [asdict(step) for step in self.steps],
            "consultation": self.consultation,
            "recording": self.recording,
            "transcript": {"turns": [asdict(turn) for turn in self.turns]},
            "audit": self.audit,
        }
        return json.dumps(whole, indent=2)


def require(holds: bool, what: str) -> None:
    """Raises DemoFailed with `what` where a check does not hold."""
    if not holds:
        raise DemoFailed(what)
