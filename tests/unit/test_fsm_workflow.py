"""A workflow of a state machine goes the ways that its machine has, and no others."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from omninode_bridge.core.fsm import Rule, TransitionTable, Way
from omninode_bridge.core.fsm_workflow import (
    ACTIVE,
    ENDED,
    INITIALIZED,
    TRANSITION_ASKED,
    project,
    read_state,
    reduce,
)
from omninode_bridge.core.machine import WORKFLOW, Machine, machine_of
from omninode_bridge.core.message import FSM_STATE_TRANSITIONED, Intent
from omninode_bridge.testing import Given, given
from omninode_bridge.testing.clock import NOON

KEY = "fsm:17"
BEGUN = (INITIALIZED, {"machine": WORKFLOW.as_dict()})


def asked(from_state: str, to_state: str, **more: object) -> tuple[str, dict[str, Any]]:
    return TRANSITION_ASKED, {"from_state": from_state, "to_state": to_state, **more}


def workflow(*path: str) -> Given:
    """Return a workflow that was begun and has gone along `path`."""
    return given(reduce, workflow_key=KEY).having(BEGUN, *(asked(*step) for step in pairwise(path)))


def state_of(case: Given) -> str:
    return read_state(KEY, 1, _json(case.state)).state


def _json(data: bytes) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(data)
    return state


def test_a_workflow_begins_in_the_initial_state_and_tells_no_transition() -> None:
    begun = given(reduce, workflow_key=KEY).when(*BEGUN)
    begun.then({"machine": WORKFLOW.as_dict(), "state": "PENDING", "metadata": {}})
    begun.then_intents()


@pytest.mark.parametrize(
    ("path", "to_state", "trigger"),
    [
        (("PENDING",), "PROCESSING", "start"),
        (("PENDING",), "FAILED", "fail"),
        (("PENDING", "PROCESSING"), "COMPLETED", "complete"),
        (("PENDING", "PROCESSING"), "FAILED", "fail"),
    ],
)
def test_each_way_of_the_machine_is_gone_and_told(
    path: tuple[str, ...], to_state: str, trigger: str
) -> None:
    result = workflow(*path).when(*asked(path[-1], to_state, metadata={"by": "hand"}))
    told = {
        "workflow_id": "17",
        "from_state": path[-1],
        "to_state": to_state,
        "trigger": trigger,
        "machine": "workflow",
        "machine_version": 1,
        "metadata": {"by": "hand"},
    }
    result.then_intents(Intent(FSM_STATE_TRANSITIONED, KEY, told))
    result.then({"machine": WORKFLOW.as_dict(), "state": to_state, "metadata": {}})


@pytest.mark.parametrize(
    "path", [("PENDING", "PROCESSING", "COMPLETED"), ("PENDING", "FAILED")], ids=str
)
@pytest.mark.parametrize("to_state", WORKFLOW.table.states)
@pytest.mark.parametrize("trigger", [None, "start", "complete", "fail"])
def test_a_terminal_state_stays_terminal(
    path: tuple[str, ...], to_state: str, trigger: str | None
) -> None:
    named = {} if trigger is None else {"trigger": trigger}
    workflow(*path).when(*asked(path[-1], to_state, **named)).then_rejected()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (asked("PENDING", "COMPLETED"), "PENDING does not become COMPLETED; allowed: fail to F"),
        (asked("PENDING", "PROCESSING", trigger="fail"), "does not become PROCESSING by 'fail'"),
        (asked("PROCESSING", "COMPLETED"), "it is PENDING, not PROCESSING; allowed: fail to"),
        ((TRANSITION_ASKED, {"from_state": "PENDING"}), "ask with from_state and to_state"),
        (asked("PENDING", "PROCESSING", metadata=[]), "ask with from_state and to_state"),
        (asked("PENDING", "PROCESSING", more=1), "ask with from_state and to_state"),
        (BEGUN, "it is initialised already, and PENDING"),
        (("Placed", {}), "knows no 'Placed'"),
    ],
)
def test_what_is_not_in_the_machine_is_rejected_in_words(
    request_: tuple[str, dict[str, Any]], says: str
) -> None:
    result = workflow("PENDING").when(*request_)
    result.then_rejected()
    assert says in (result.reason or "")


def test_a_workflow_that_was_not_initialised_goes_nowhere() -> None:
    result = given(reduce, workflow_key=KEY).when(*asked("PENDING", "PROCESSING"))
    result.then_rejected()
    assert result.reason == "it is not initialised"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"machine": None},
        {"machine": WORKFLOW.as_dict() | {"initial": "NOWHERE"}},
        {"machine": WORKFLOW.as_dict() | {"states": ["*"]}},
        {"machine": WORKFLOW.as_dict() | {"states": "PENDING"}},
        {"machine": WORKFLOW.as_dict() | {"more": 1}},
        {"machine": WORKFLOW.as_dict() | {"transitions": [{"trigger": "go"}]}},
        {"machine": WORKFLOW.as_dict(), "metadata": 1},
        {"machine": WORKFLOW.as_dict(), "more": 1},
    ],
    ids=str,
)
def test_a_machine_that_cannot_work_begins_nothing(payload: dict[str, Any]) -> None:
    given(reduce, workflow_key=KEY).when(INITIALIZED, payload).then_rejected()


def test_a_workflow_keeps_the_machine_it_began_with() -> None:
    lamp = TransitionTable("off", ("off", "on"), (Rule("press", ("off",), "on"),))
    machine = Machine("lamp", 7, lamp)
    lit = given(reduce, workflow_key=KEY).having(
        (INITIALIZED, {"machine": machine.as_dict()}), asked("off", "on")
    )
    assert read_state(KEY, 2, _json(lit.state)).machine == machine
    lit.when(*asked("on", "off")).then_rejected()


def test_a_projection_lists_by_state_and_parts_what_ended_from_what_can_move() -> None:
    for path, namespace in [
        (("PENDING",), ACTIVE),
        (("PENDING", "PROCESSING"), ACTIVE),
        (("PENDING", "PROCESSING", "COMPLETED"), ENDED),
        (("PENDING", "FAILED"), ENDED),
    ]:
        shown = project(KEY, _json(workflow(*path).state), TRANSITION_ASKED, NOON)
        assert (shown.tag, shown.namespace) == (path[-1], namespace)
        assert shown.indices == {"machine": "workflow", "machine_version": 1}


def test_a_machine_reads_what_it_wrote() -> None:
    assert machine_of(WORKFLOW.as_dict()) == WORKFLOW


def test_the_machine_of_workflows_has_the_ways_of_the_plan() -> None:
    ways = {state: WORKFLOW.table.ways(state) for state in WORKFLOW.table.states}
    assert ways == {
        "PENDING": (Way("fail", "FAILED"), Way("start", "PROCESSING")),
        "PROCESSING": (Way("complete", "COMPLETED"), Way("fail", "FAILED")),
        "COMPLETED": (),
        "FAILED": (),
    }


states = st.sampled_from(WORKFLOW.table.states)


@for_all(st.lists(st.tuples(states, states), max_size=8))
def test_whatever_is_asked_only_ways_of_the_machine_are_gone(steps: list[tuple[str, str]]) -> None:
    case = workflow("PENDING")
    for from_state, to_state in steps:
        before = state_of(case)
        result = case.when(*asked(from_state, to_state))
        is_way = before == from_state and WORKFLOW.table.way(before, to_state) is not None
        assert (result.reason is None) == is_way
        if is_way:
            case = case.having(asked(from_state, to_state))
            assert state_of(case) == to_state
