"""How the bucket's rules differ from what is meant, as a plan that people can read, and what would be put. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from app.bucket.model import Part, Rule, Rules, is_of_a_hold, is_ours, threatens, words
from app.integrations.storage_rules import CorsRule, LifecycleRule


class Sign(StrEnum):
    """What is done with a rule; a foreign one stays unless it is asked to go."""

    ADD = "+"
    CHANGE = "~"
    REMOVE = "-"
    FOREIGN = "!"


@dataclass(frozen=True)
class Line:
    """One difference: of which rule, and what is said of it, before and after a change."""

    sign: Sign
    part: Part
    rule: Rule
    text: str

    @property
    def puts(self) -> bool:
        """Whether the bucket would have a rule by it that it has not."""
        return self.sign in (Sign.ADD, Sign.CHANGE)

    def __str__(self) -> str:
        return f"{self.sign.value} {self.part.value} {self.rule.id or '(no id)'}: {self.text}"


@dataclass(frozen=True)
class PartPlan:
    """One part: its differences, and every rule that it would then have.

    `is_unread`: it could not be compared, since there is no key, or the S3 server has no such rules (not `is_offered`).
    """

    part: Part
    lines: tuple[Line, ...]
    result: tuple[Rule, ...]
    is_unread: bool = False
    is_offered: bool = True

    @property
    def has_changes(self) -> bool:
        """Whether anything would be put."""
        return any(line.sign is not Sign.FOREIGN for line in self.lines)


def plan(wanted: Rules, found: Rules, *, prune: bool = False) -> tuple[PartPlan, ...]:
    """What it takes to bring the bucket to what is meant.

    Foreign rules stay, and are shown, unless `prune`; locks of holds always stay. What stays is put back as it was
    read, in its order.
    """
    return tuple(_part(part, wanted.of(part) or (), found.of(part), prune=prune) for part in Part)


def _part(part: Part, wanted: Sequence[Rule], found: Sequence[Rule] | None, *, prune: bool) -> PartPlan:
    if found is None:
        return PartPlan(part, (), (), is_unread=True)
    missing = {rule.id: rule for rule in wanted}
    lines: list[Line] = []
    result: list[Rule] = []
    for rule in found:
        meant = _counterpart(rule, missing)
        if meant is not None:
            del missing[meant.id]
            is_same = _says_the_same(rule, meant)
            result.append(rule if is_same else meant)
            if not is_same:
                lines.append(Line(Sign.CHANGE, part, meant, f"{words(rule)} -> {words(meant)}"))
        elif is_of_a_hold(rule):
            result.append(rule)
        elif is_ours(rule) or prune:
            lines.append(Line(Sign.REMOVE, part, rule, _said(rule)))
        else:
            lines.append(Line(Sign.FOREIGN, part, rule, _said(rule)))
            result.append(rule)
    lines += [Line(Sign.ADD, part, rule, words(rule)) for rule in missing.values()]
    return PartPlan(part, tuple(lines), (*result, *missing.values()))


def _counterpart(rule: Rule, missing: Mapping[str, Rule]) -> Rule | None:
    """Which of the rules that are meant this one is: by its id, or, where a store keeps no ids, by what it says."""
    if rule.id:
        return missing.get(rule.id)
    return next((meant for meant in missing.values() if _says_the_same(rule, meant)), None)


def _says_the_same(rule: Rule, meant: Rule) -> bool:
    if isinstance(rule, CorsRule) and not rule.id:
        rule = replace(rule, id=meant.id)
    return rule == meant


def _said(rule: Rule) -> str:
    threatened = threatens(rule) if isinstance(rule, LifecycleRule) else ()
    warning = f"; THIS WOULD DELETE WHAT MUST STAY ({', '.join(threatened)})" if threatened else ""
    return words(rule) + warning
