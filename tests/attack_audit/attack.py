"""An attack on the audit log, and the verdict on it."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.attack_audit.attacker import Attacker
from tests.attack_audit.auditor import Finding

DATABASE = "database"
LOG_KEY = "log key"
BUCKET = "bucket"
KEY_AND_BUCKET = "log key, bucket"


@dataclass(frozen=True)
class Attack:
    """An attack that the audit must detect.

    `holds` is what the attacker holds besides the database. `finding` is the finding that the audit must name, and
    `evidence` is what shows it.
    """

    name: str
    holds: str
    finding: str
    evidence: str
    run: Callable[[Attacker], None]


@dataclass(frozen=True)
class UndetectableAttack:
    """An attack that no log of this kind can show. `exposure` is how long the attacker has. `limit` is the name of
    the measured exposure (`Exposures`), or None if there is no limit.
    """

    name: str
    holds: str
    exposure: str
    limit: str | None
    run: Callable[[Attacker], None]


@dataclass(frozen=True)
class Verdict:
    """The result of one attack. `findings` is what the audit named, without the findings of the control."""

    attack: Attack
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def is_detected(self) -> bool:
        return any(finding.name == self.attack.finding for finding in self.findings)
