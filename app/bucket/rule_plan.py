"""Compares the bucket's rules with the rules of `policies/bucket`, and returns a readable plan and the rules to
write. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from app.bucket.model import Part, Rule, Rules, describe_rule, is_of_a_hold, is_ours, threatens
from app.integrations.storage.rules import CorsRule, LifecycleRule


class Sign(StrEnum):
    """The action of a plan on one rule of the bucket. A foreign rule (a rule that somebody else created) stays
    unless `prune` is set.
    """

    ADD = "+"
    CHANGE = "~"
    REMOVE = "-"
    FOREIGN = "!"


@dataclass(frozen=True)
class Line:
    """One difference between the bucket's rules and the rules of `policies/bucket`. A changed rule is described
    before and after the change.
    """

    sign: Sign
    part: Part
    rule: Rule
    text: str

    @property
    def puts(self) -> bool:
        """Return whether this change adds or replaces a rule of the bucket."""
        return self.sign in (Sign.ADD, Sign.CHANGE)

    def __str__(self) -> str:
        return f"{self.sign.value} {self.part.value} {self.rule.id or '(no id)'}: {self.text}"


@dataclass(frozen=True)
class PartPlan:
    """The plan for one part of the bucket's rules (lifecycle, CORS or locks): the differences, and all rules after
    the change.

    `is_unread` means that the part could not be compared, because its API key is not configured or the S3 server
    does not support such rules. `is_offered` is False only if the S3 server does not support such rules.
    """

    part: Part
    lines: tuple[Line, ...]
    result: tuple[Rule, ...]
    is_unread: bool = False
    is_offered: bool = True

    @property
    def has_changes(self) -> bool:
        """Return whether the plan changes any rule."""
        return any(line.sign is not Sign.FOREIGN for line in self.lines)


def plan_rules(wanted: Rules, found: Rules, *, prune: bool = False) -> tuple[PartPlan, ...]:
    """Return the changes after which the bucket's rules match the rules of `policies/bucket`.

    Foreign rules (rules that somebody else created) are shown in the plan, and stay unless `prune` is set. A lock
    that was created for a legal hold always stays. The rules that stay are written back unchanged and in the same
    order.
    """
    return tuple(_plan_part(part, wanted.of(part) or (), found.of(part), prune=prune) for part in Part)


def _plan_part(part: Part, wanted: Sequence[Rule], found: Sequence[Rule] | None, *, prune: bool) -> PartPlan:
    if found is None:
        return PartPlan(part, (), (), is_unread=True)
    missing = {rule.id: rule for rule in wanted}
    lines: list[Line] = []
    result: list[Rule] = []
    for rule in found:
        meant = _find_counterpart(rule, missing)
        if meant is not None:
            del missing[meant.id]
            is_same = _is_equal(rule, meant)
            result.append(rule if is_same else meant)
            if not is_same:
                lines.append(
                    Line(Sign.CHANGE, part, meant, f"{describe_rule(rule)} -> {describe_rule(meant)}")
                )
        elif is_of_a_hold(rule):
            result.append(rule)
        elif is_ours(rule) or prune:
            lines.append(Line(Sign.REMOVE, part, rule, _describe_with_warning(rule)))
        else:
            lines.append(Line(Sign.FOREIGN, part, rule, _describe_with_warning(rule)))
            result.append(rule)
    lines += [Line(Sign.ADD, part, rule, describe_rule(rule)) for rule in missing.values()]
    return PartPlan(part, tuple(lines), (*result, *missing.values()))


def _find_counterpart(rule: Rule, missing: Mapping[str, Rule]) -> Rule | None:
    """Return the rule of `policies/bucket` that has the same id as the given rule. If the object store keeps no
    rule ids, return the rule with the same content.
    """
    if rule.id:
        return missing.get(rule.id)
    return next((meant for meant in missing.values() if _is_equal(rule, meant)), None)


def _is_equal(rule: Rule, meant: Rule) -> bool:
    if isinstance(rule, CorsRule) and not rule.id:
        rule = replace(rule, id=meant.id)
    return rule == meant


def _describe_with_warning(rule: Rule) -> str:
    threatened = threatens(rule) if isinstance(rule, LifecycleRule) else ()
    warning = f"; THIS WOULD DELETE OBJECTS THAT MUST STAY ({', '.join(threatened)})" if threatened else ""
    return describe_rule(rule) + warning
