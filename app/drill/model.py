"""The findings of a restore drill, step by step. Pure. The findings contain ids and counts, and no person's data."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

LIMIT_HOURS: Final = 72
RULE: Final = "proposed: HIPAA Security Rule NPRM, 90 FR 898 (restore within 72 hours; no final rule)"


@dataclass(frozen=True)
class Problem:
    """A problem that the drill found: a reason in snake_case, and its subject, the id of a recording or the name of
    a table.
    """

    reason: str
    about: str = ""


@dataclass
class Notes:
    """What a running step of the drill has found so far: figures and problems."""

    found: dict[str, int | str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def require(self, holds: bool, reason: str, about: object = "") -> None:
        """If `holds` is false, note a problem of the step with this reason."""
        if not holds:
            self.problems.append(Problem(reason, str(about)))


@dataclass(frozen=True)
class Step:
    """A finished step of the drill. A step has succeeded if it has no problem."""

    name: str
    seconds: float
    found: dict[str, int | str]
    problems: tuple[Problem, ...]

    @property
    def is_ok(self) -> bool:
        """Return whether the step has no problem."""
        return not self.problems


@dataclass(frozen=True)
class DrillReport:
    """The result of the whole drill. If a drill stopped before its last step, the drill has failed."""

    deployment: str
    began_at: datetime
    seconds: float
    steps: tuple[Step, ...]
    is_complete: bool

    @property
    def is_ok(self) -> bool:
        """Return whether every step of the drill ran and succeeded."""
        return self.is_complete and all(step.is_ok for step in self.steps)

    @property
    def is_within_limit(self) -> bool:
        """Return whether the restore drill took less than `LIMIT_HOURS`."""
        return self.seconds < LIMIT_HOURS * 3600

    def as_json(self) -> dict[str, object]:
        """Return the drill's report as JSON, for a file that the practice keeps as evidence."""
        return {
            "deployment": self.deployment,
            "began_at": self.began_at.isoformat(),
            "ok": self.is_ok,
            "complete": self.is_complete,
            "total_seconds": round(self.seconds, 3),
            "limit_hours": LIMIT_HOURS,
            "within_limit": self.is_within_limit,
            "rule": RULE,
            "steps": [
                {
                    "name": step.name,
                    "ok": step.is_ok,
                    "seconds": round(step.seconds, 3),
                    "found": step.found,
                    "problems": [{"reason": one.reason, "about": one.about} for one in step.problems],
                }
                for step in self.steps
            ],
        }
