"""A state machine does what its table says, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.fsm import ANY, Illegal, Kept, Moved, Rule, TransitionTable, Way

STATES = ("open", "paid", "shipped", "cancelled")
RULES = (
    Rule("pay", ("open",), "paid"),
    Rule("ship", ("paid",), "shipped"),
    Rule("cancel", (ANY,), "cancelled"),
    Rule("cancel", ("shipped",), "shipped"),
)
ORDER = TransitionTable("open", STATES, RULES)


def test_a_rule_leads_from_its_source_to_its_target() -> None:
    assert ORDER.next("open", "pay") == Moved("paid")
    assert ORDER.next("paid", "ship") == Moved("shipped")


@pytest.mark.parametrize("state", ["open", "paid", "cancelled"])
def test_a_rule_for_any_state_holds_where_no_other_does(state: str) -> None:
    assert ORDER.next(state, "cancel") == Moved("cancelled")


@pytest.mark.parametrize("rules", [RULES, tuple(reversed(RULES))])
def test_a_rule_that_names_the_state_goes_before_one_for_any_state(rules: tuple[Rule, ...]) -> None:
    table = TransitionTable("open", STATES, rules)
    assert table.next("shipped", "cancel") == Moved("shipped")


@pytest.mark.parametrize(
    ("state", "trigger", "allowed"),
    [
        ("open", "ship", ("cancel", "pay")),
        ("paid", "pay", ("cancel", "ship")),
        ("cancelled", "never heard of", ("cancel",)),
        ("never heard of", "pay", ("cancel",)),
    ],
)
def test_what_is_not_in_the_table_is_illegal_and_says_what_would_be_allowed(
    state: str, trigger: str, allowed: tuple[str, ...]
) -> None:
    assert ORDER.next(state, trigger) == Illegal(state, trigger, allowed)


def test_a_table_may_let_what_it_does_not_know_pass() -> None:
    table = TransitionTable("open", STATES, RULES, unmatched="keep")
    assert table.next("open", "ship") == Kept("open")
    assert table.next("open", "pay") == Moved("paid")


def test_a_rule_may_have_several_sources() -> None:
    table = TransitionTable("open", STATES, (Rule("stop", ("open", "paid"), "cancelled"),))
    assert [type(table.next(state, "stop")) for state in STATES] == [Moved, Moved, Illegal, Illegal]


def test_a_rule_said_twice_is_no_contradiction() -> None:
    table = TransitionTable("open", STATES, (*RULES, *RULES))
    assert table.next("open", "pay") == Moved("paid")


def test_a_table_without_rules_allows_nothing() -> None:
    assert TransitionTable("open", ("open",), ()).allowed("open") == ()


@given(st.sampled_from(STATES), st.sampled_from(["pay", "ship", "cancel", "return"]))
def test_a_trigger_moves_exactly_where_it_is_allowed(state: str, trigger: str) -> None:
    moved = isinstance(ORDER.next(state, trigger), Moved)
    assert moved == (trigger in ORDER.allowed(state))


def test_equal_tables_are_equal_values() -> None:
    same = TransitionTable("open", STATES, RULES)
    assert same == ORDER
    assert hash(same) == hash(ORDER)


@pytest.mark.parametrize(
    ("initial", "states", "rules", "says"),
    [
        ("open", ("open", "open"), (), "listed twice"),
        ("new", ("open",), (), "initial state 'new' is not among"),
        ("open", ("open",), (Rule("pay", ("open",), "paid"),), "trigger 'pay': 'paid' is not"),
        ("open", ("open",), (Rule("pay", ("new",), "open"),), "trigger 'pay': 'new' is not"),
        (
            "open",
            ("open", "paid"),
            (Rule("pay", ("open",), "paid"), Rule("pay", ("open",), "open")),
            "trigger 'pay' leads from 'open' to two states",
        ),
        (
            "open",
            ("open", "paid"),
            (Rule("pay", (ANY,), "paid"), Rule("pay", (ANY,), "open")),
            r"leads from '\*' to two states",
        ),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    initial: str, states: tuple[str, ...], rules: tuple[Rule, ...], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        TransitionTable(initial, states, rules)


def test_the_ways_out_of_a_state_are_its_own_rules_before_those_for_any() -> None:
    assert ORDER.ways("open") == (Way("cancel", "cancelled"), Way("pay", "paid"))
    assert ORDER.ways("shipped") == (Way("cancel", "shipped"),)


def test_a_terminal_state_is_one_that_nothing_leads_out_of() -> None:
    assert ORDER.terminal() == ()
    table = TransitionTable("open", STATES, (Rule("cancel", ("open", "paid"), "cancelled"),))
    assert table.terminal() == ("shipped", "cancelled")


def test_a_way_is_found_by_where_it_leads_and_by_its_trigger_if_one_is_named() -> None:
    rules = (Rule("pay", ("open",), "paid"), Rule("forgive", ("open",), "paid"))
    table = TransitionTable("open", STATES, rules)
    assert table.way("open", "paid") == Way("forgive", "paid")
    assert table.way("open", "paid", "pay") == Way("pay", "paid")
    assert table.way("open", "paid", "ship") is None
    assert table.way("open", "shipped") is None
    assert table.way("paid", "paid") is None


@given(st.sampled_from(STATES))
def test_the_ways_are_what_is_allowed_and_lead_where_the_triggers_do(state: str) -> None:
    ways = ORDER.ways(state)
    assert tuple(way.trigger for way in ways) == ORDER.allowed(state)
    assert all(ORDER.next(state, way.trigger) == Moved(way.target) for way in ways)
