"""Tests of the plan for a bucket's rules: which rules the bucket must have, which differences the plan lists, and
that a new plan is empty after the first plan was applied.
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bucket import model, policy_documents
from app.bucket.model import Part, Rule, Rules, derive_rules, describe_rule, is_locked, threatens
from app.bucket.rule_plan import Line, PartPlan, Sign, plan_rules
from app.errors import InvalidInput
from app.integrations.cloudflare.client import LockRule
from app.integrations.storage.rules import CorsRule, LifecycleRule

DOCUMENTS = policy_documents.load()
ORIGIN = "https://app.example.org"
WANTED = derive_rules(DOCUMENTS, {30}, [ORIGIN])
R2_DEFAULT = LifecycleRule("Default Multipart Abort Rule", "", abort_uploads_after_days=7)
LIFECYCLE, CORS, LOCKS = WANTED.lifecycle or (), WANTED.cors or (), WANTED.locks or ()


def only(found: Rules, part: Part, *, prune: bool = False) -> PartPlan:
    [of_part] = [one for one in plan_rules(WANTED, found, prune=prune) if one.part is part]
    return of_part


def told(part: PartPlan) -> list[str]:
    return [str(line) for line in part.lines]


def test_each_term_has_its_backstop_a_week_later() -> None:
    assert (
        LifecycleRule("backstop-d30", "r/d30/", delete_after_days=37),
        LifecycleRule("backstop-d90", "r/d90/", delete_after_days=97),
        LifecycleRule("backstop-exports", "exports/", delete_after_days=37),
        LifecycleRule("unfinished-uploads", "", abort_uploads_after_days=7),
    ) == LIFECYCLE


def test_locks_are_for_ever() -> None:
    assert (LockRule("fixed-audit", "audit/"), LockRule("fixed-ledger", "ledger/")) == LOCKS


def test_pages_of_the_web_app_alone_may_reach_the_bucket() -> None:
    [rule] = CORS
    assert (rule.origins, rule.methods) == ((ORIGIN,), ("GET", "HEAD", "PUT"))
    assert derive_rules(DOCUMENTS, (), ()).cors == ()


@given(st.sets(st.integers(1, 36_500)))
def test_no_rule_that_is_meant_deletes_what_must_stay(terms: set[int]) -> None:
    rules = derive_rules(DOCUMENTS, terms, [ORIGIN]).lifecycle or ()
    assert [rule.id for rule in rules if threatens(rule)] == []
    for rule in rules:
        if rule.prefix.startswith("r/d"):
            assert rule.delete_after_days == int(rule.prefix[3:-1]) + 7


def test_a_term_of_no_days_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bucket_policy_unsafe"):
        derive_rules(DOCUMENTS, {0}, ())


@pytest.mark.parametrize(
    ("rule", "threatened"),
    [
        (
            LifecycleRule("x", "", delete_after_days=1),
            ("audit/", "audit-latest/", "keep/", "ledger/", "deployment"),
        ),
        (LifecycleRule("x", "keep/some/", delete_after_days=1), ("keep/",)),
        (LifecycleRule("x", "dep", delete_after_days=1), ("deployment",)),
        (LifecycleRule("x", "ledger/", other=("Expiration.Date",)), ("ledger/",)),
        (LifecycleRule("x", "", enabled=False, delete_after_days=1), ()),
        (R2_DEFAULT, ()),
        (LifecycleRule("x", "r/d90/", delete_after_days=1), ()),
    ],
)
def test_a_rule_threatens_what_it_would_delete(rule: LifecycleRule, threatened: tuple[str, ...]) -> None:
    assert threatens(rule) == threatened


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        (LockRule("hold-1", "r/d90/c/"), True),
        (LockRule("fixed-x", ""), True),
        (LockRule("hold-1", "r/d90/c/", enabled=False), False),
        (LockRule("hold-1", "r/d90/c/", max_age_seconds=1), False),
        (LockRule("hold-1", "r/d90/c/", until=datetime(2099, 1, 1, tzinfo=UTC)), False),
        (LockRule("hold-1", "r/d90/c/v/"), False),
        (LockRule("hold-1", "r/d90/other/"), False),
    ],
)
def test_only_a_lock_without_end_over_all_of_it_locks(lock: LockRule, expected: bool) -> None:
    assert is_locked("r/d90/c/", [lock]) is expected


def test_a_bucket_as_meant_needs_nothing() -> None:
    assert not any(part.lines for part in plan_rules(WANTED, WANTED))


def test_an_empty_bucket_gets_every_rule() -> None:
    plans = plan_rules(WANTED, Rules((), (), ()))
    assert [line.sign for part in plans for line in part.lines] == [Sign.ADD] * 7
    assert [part.result for part in plans] == [LIFECYCLE, CORS, LOCKS]


def test_a_part_without_a_key_is_unread_and_not_empty() -> None:
    part = only(Rules(None, CORS, LOCKS), Part.LIFECYCLE)
    assert part.is_unread
    assert not part.has_changes


def test_a_changed_rule_says_what_it_said_and_what_it_will() -> None:
    short = replace(LIFECYCLE[1], delete_after_days=1)
    part = only(Rules((short, *LIFECYCLE[2:], LIFECYCLE[0]), CORS, LOCKS), Part.LIFECYCLE)
    assert told(part) == [
        (
            "~ lifecycle backstop-d90: deletes objects under r/d90/ 1 days after they were stored -> deletes objects"
            " under r/d90/ 97 days after they were stored"
        )
    ]
    assert part.result == (LIFECYCLE[1], *LIFECYCLE[2:], LIFECYCLE[0])


def test_a_rule_of_ours_that_does_more_is_changed_back() -> None:
    more = replace(LIFECYCLE[0], other=("Transitions",), raw={"ID": "backstop-d30"})
    part = only(Rules((more, *LIFECYCLE[1:]), CORS, LOCKS), Part.LIFECYCLE)
    assert [line.sign for line in part.lines] == [Sign.CHANGE]
    assert part.result[0] == LIFECYCLE[0]


def test_a_term_out_of_use_loses_its_rule() -> None:
    old = LifecycleRule("backstop-d10", "r/d10/", delete_after_days=17)
    part = only(Rules((old, *LIFECYCLE), CORS, LOCKS), Part.LIFECYCLE)
    assert told(part) == [
        "- lifecycle backstop-d10: deletes objects under r/d10/ 17 days after they were stored"
    ]
    assert part.result == LIFECYCLE


def test_foreign_rules_stay_as_they_are_unless_they_are_to_go() -> None:
    raw = {"ID": "mine", "Filter": {"Prefix": "keep/"}, "Expiration": {"Days": 1}}
    foreign = LifecycleRule("mine", "keep/", delete_after_days=1, raw=raw)
    found = Rules((R2_DEFAULT, *LIFECYCLE, foreign), CORS, LOCKS)
    part = only(found, Part.LIFECYCLE)
    assert [(line.sign, line.rule.id) for line in part.lines] == [
        (Sign.FOREIGN, R2_DEFAULT.id),
        (Sign.FOREIGN, "mine"),
    ]
    assert told(part)[1].endswith("THIS WOULD DELETE OBJECTS THAT MUST STAY (keep/)")
    assert not part.has_changes
    assert part.result[-1].raw is raw  # type: ignore[union-attr]
    pruned = only(found, Part.LIFECYCLE, prune=True)
    assert [line.sign for line in pruned.lines] == [Sign.REMOVE, Sign.REMOVE]
    assert pruned.result == LIFECYCLE


def test_locks_of_holds_are_neither_shown_nor_taken() -> None:
    hold = LockRule("hold-1", "r/d90/c/")
    for prune in (False, True):
        part = only(Rules(LIFECYCLE, CORS, (hold, *LOCKS)), Part.LOCKS, prune=prune)
        assert part.lines == ()
        assert part.result == (hold, *LOCKS)


def test_a_lock_that_was_switched_off_is_switched_on() -> None:
    off = replace(LOCKS[0], enabled=False)
    part = only(Rules(LIFECYCLE, CORS, (off, LOCKS[1])), Part.LOCKS)
    assert told(part) == [
        (
            "~ locks fixed-audit: is disabled (locks objects under audit/ without end) -> locks objects under"
            " audit/ without end"
        )
    ]
    assert part.result == LOCKS


def test_a_store_that_keeps_no_ids_of_cors_rules_is_as_meant() -> None:
    part = only(Rules(LIFECYCLE, (replace(CORS[0], id=""),), LOCKS), Part.CORS)
    assert part.lines == ()


def test_another_origin_is_foreign_and_shown() -> None:
    other = CorsRule("", ("*",), ("GET",))
    part = only(Rules(LIFECYCLE, (other, *CORS), LOCKS), Part.CORS)
    assert told(part) == ["! cors (no id): pages of * may GET with the headers none"]


def test_words_of_each_kind_of_lock() -> None:
    assert describe_rule(LockRule("x", "a/", max_age_seconds=5)) == (
        "locks objects under a/ until they are 5 seconds old"
    )
    at = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    assert describe_rule(LockRule("x", "", until=at)) == "locks all objects until 2030-01-02 03:04 UTC"
    assert describe_rule(LifecycleRule("x", "a/")) == "does nothing"
    assert "Transitions" in describe_rule(LifecycleRule("x", "a/", other=("Transitions",)))


_IDS = st.sampled_from(
    [
        "backstop-d90",
        "backstop-d7",
        "unfinished-uploads",
        "web-app",
        "fixed-audit",
        "fixed-old",
        "hold-1",
        "",
        "x",
    ]
)
_PREFIXES = st.sampled_from(["", "r/d90/", "audit/", "keep/"])
_DAYS = st.none() | st.integers(1, 99)
_LIFECYCLES = st.lists(
    st.builds(LifecycleRule, _IDS, _PREFIXES, st.booleans(), _DAYS, _DAYS), unique_by=lambda rule: rule.id
)
_CORS_RULES = st.lists(st.builds(CorsRule, _IDS, st.just((ORIGIN,)), st.just(("GET",))))
_LOCK_RULES = st.lists(
    st.builds(LockRule, _IDS, _PREFIXES, st.booleans(), _DAYS), unique_by=lambda rule: rule.id
)


@given(_LIFECYCLES, _CORS_RULES, _LOCK_RULES, st.booleans())
def test_what_is_applied_leaves_nothing_to_apply_and_unlocks_no_hold(
    lifecycle: list[LifecycleRule], cors: list[CorsRule], locks: list[LockRule], prune: bool
) -> None:
    found = Rules(tuple(lifecycle), tuple(cors), tuple(locks))
    first = plan_rules(WANTED, found, prune=prune)
    after = Rules(*(part.result for part in first))  # type: ignore[arg-type]
    assert not any(part.has_changes for part in plan_rules(WANTED, after, prune=prune))
    assert {rule for rule in locks if model.is_of_a_hold(rule)} <= set(after.locks or ())
    for part in Part:
        kept = _foreign(found.of(part) or ())
        assert _foreign(after.of(part) or ()) == ([] if prune else kept)
        for rule in WANTED.of(part) or ():
            assert (after.of(part) or ()).count(rule) == 1


def _foreign(rules: object) -> list[Rule]:
    return [rule for rule in rules if not (model.is_ours(rule) or model.is_of_a_hold(rule))]  # type: ignore[attr-defined]


def test_a_line_reads_like_a_plan() -> None:
    line = Line(Sign.ADD, Part.LOCKS, LOCKS[0], describe_rule(LOCKS[0]))
    assert str(line) == "+ locks fixed-audit: locks objects under audit/ without end"
