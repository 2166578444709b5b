"""Runs the attacks: one control, each attack on a new copy of the system, and the undetectable attacks."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from app.audit.verification.checkpoints import make_policy
from tests.attack_audit import on_buckets, on_events, on_trees, on_years, table
from tests.attack_audit.attack import Attack, UndetectableAttack, Verdict
from tests.attack_audit.attacker import Attacker, Files
from tests.attack_audit.auditor import Auditor, Finding
from tests.attack_audit.exposure import measure_exposures
from tests.attack_audit.system import DEPLOYMENT, System, running
from tests.attack_audit.undetectable import UNDETECTABLE
from tests.databases import Database, shared_cluster

ATTACKS: tuple[Attack, ...] = (
    *on_events.EVENTS,
    *on_events.INSERTIONS,
    *on_trees.TREES,
    *on_trees.CHECKPOINTS,
    *on_buckets.RESTORES,
    *on_buckets.BUCKETS,
    *on_years.YEARS,
    *on_years.FILES,
)
SHORT: tuple[str, ...] = (
    "delete one event",
    "insert an event with all triggers off",
    "edit an event, compute the tree again and sign it",
    "restore it and let the worker go on",
    "rewrite the database and the first bucket with one event edited",
    "append an event to a closed year and sign it",
    "remove a line from an export",
)
"""One attack of each kind, for a short run."""


class ControlError(Exception):
    """The audit of the system without an attack found something."""


def run(console: Console, directory: Path, *, only: str = "", is_short: bool = False) -> int:
    """Run the attacks, and print the table. `only` chooses the attacks with this text in their name. Return the exit
    code.
    """
    chosen = [one for one in ATTACKS if only in one.name and (not is_short or one.name in SHORT)]
    with (
        shared_cluster(directory / "cluster") as cluster,
        cluster.clone("newer") as base,
        running(cluster, base, directory) as system,
    ):
        suite = _Suite(system, directory)
        console.print(f"attacking a log of {system.size} sealed events, {len(chosen)} times")
        suite.run_control()
        verdicts = []
        for attack in chosen:
            verdicts.append(suite.run_attack(attack))
            table.show_progress(console, verdicts[-1])
        undetectable = list(suite.run_undetectable([one for one in UNDETECTABLE if only in one.name]))
        suite.run_control()
    return table.show(console, verdicts, undetectable)


class _Suite:
    """The system, the auditor, and what both know."""

    def __init__(self, system: System, directory: Path) -> None:
        self._system = system
        handed = directory / "handed"
        handed.mkdir()
        self._targets = system.build(handed / "export.ndjson")
        policy = make_policy(
            DEPLOYMENT, range(system.closed_year, system.year + 1), system.seed, [], system.witness.vkeys
        )
        desk = directory / "desk"
        desk.mkdir()
        self._auditor = Auditor(system, policy, desk)
        with system.copy() as database:
            one, other = self._targets.events[:2]
            events = (one, other, system.export_event)
            self._files = self._auditor.receive_files(database, events, handed / "export.ndjson")

    def run_control(self) -> None:
        """Audit the system without an attack. Raises ControlError if the audit finds something."""
        with self._system.copy() as database:
            found = self._auditor.audit(database, self._files)
        if found:
            raise ControlError(
                f"the audit finds {', '.join(sorted({one.name for one in found}))} without an attack"
            )

    def run_attack(self, attack: Attack) -> Verdict:
        """Run an attack on a new copy of the system, and audit the copy."""
        began = time.monotonic()
        found = self._attack(attack)
        return Verdict(attack, found, time.monotonic() - began)

    def run_undetectable(
        self, attacks: Sequence[UndetectableAttack]
    ) -> Iterator[tuple[UndetectableAttack, str, bool]]:
        """Run undetectable attacks. Yield each with its exposure, and whether the audit noticed it."""
        exposures = measure_exposures(self._system)
        for attack in attacks:
            found = self._attack(attack)
            yield attack, exposures.describe(attack), bool(found)

    def _attack(self, attack: Attack | UndetectableAttack) -> tuple[Finding, ...]:
        with self._system.copy() as database, self._copied_files() as files:
            attacker = self._attacker(database, files)
            try:
                attack.run(attacker)
            finally:
                attacker.close()
            return self._auditor.audit(database, files)

    def _attacker(self, database: Database, files: Files) -> Attacker:
        system = self._system

        def pass_hours(hours: int) -> None:
            system.clock.offset += hours * 3600
            system.clock.set_database(database.superuser_url)

        return Attacker(
            database.superuser_url,
            self._targets,
            seed=system.seed,
            bucket=system.objects[0],
            restore_yesterday=lambda: system.restore_yesterday(database),
            work=lambda: system.work(database),
            seal=lambda: system.seal(database),
            files=files,
            pass_hours=pass_hours,
        )

    @contextmanager
    def _copied_files(self) -> Iterator[Files]:
        """Yield the files that the practice hands over. The attack may change them, and the block's end restores
        them.
        """
        contents = {path: path.read_bytes() for path in self._files.paths}
        try:
            yield self._files
        finally:
            for path, content in contents.items():
                path.write_bytes(content)
