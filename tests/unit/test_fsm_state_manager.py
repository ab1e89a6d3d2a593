"""The manager of state machines holds nothing, and answers refusals with what was allowed."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.fsm import Rule, TransitionTable, Way
from omninode_bridge.core.fsm_workflow import (
    AlreadyInitialized,
    IllegalTransition,
    StateDiffers,
    UnknownWorkflow,
    key_of,
)
from omninode_bridge.core.machine import WORKFLOW, Machine
from omninode_bridge.core.message import ReducerGaveUp, StateCommitted
from omninode_bridge.core.partition import partition_of
from tests.doors import CODEC, PARTITIONS, new_world, opened

if TYPE_CHECKING:
    from omninode_bridge.services.fsm_state_manager import FSMStateManager


async def begun(fsm: FSMStateManager, *path: str, workflow_id: str = "17") -> None:
    assert isinstance(await fsm.initialize_workflow(workflow_id), StateCommitted)
    for from_state, to_state in pairwise(path):
        answer = await fsm.transition_state(workflow_id, from_state, to_state)
        assert isinstance(answer, StateCommitted), answer


async def test_a_workflow_begins_pending_and_keeps_its_metadata() -> None:
    async with opened(new_world()) as doors:
        outcome = await doors.fsm.initialize_workflow("17", {"owner": "a"})
        assert isinstance(outcome, StateCommitted)
        assert (outcome.workflow_key, outcome.version) == ("fsm:17", 1)
        state = await doors.fsm.get_state("17")
        assert state is not None
        assert (state.state, state.version, state.machine) == ("PENDING", 1, WORKFLOW)
        assert state.metadata == {"owner": "a"}


async def test_nobody_knows_the_state_of_a_workflow_that_was_not_initialised() -> None:
    async with opened(new_world()) as doors:
        assert await doors.fsm.get_state("17") is None
        assert list(await doors.fsm.get_transition_history("17")) == []
        answer = await doors.fsm.transition_state("17", "PENDING", "PROCESSING")
        assert isinstance(answer, UnknownWorkflow)
        assert answer.outcome.reason == "rejected"


async def test_a_transition_answers_its_version_and_is_in_the_history() -> None:
    async with opened(new_world()) as doors:
        await begun(doors.fsm, "PENDING", "PROCESSING")
        answer = await doors.fsm.transition_state(
            "17", "PROCESSING", "COMPLETED", "complete", {"by": "hand"}
        )
        assert isinstance(answer, StateCommitted)
        assert answer.version == 3
        first, second = await doors.fsm.get_transition_history("17")
        assert [(each.offset, each.version) for each in (first, second)] == [(1, 2), (2, 3)]
        assert second.action_id == answer.action_id
        told = CODEC.decode(second.transition)
        assert (told["from_state"], told["to_state"]) == ("PROCESSING", "COMPLETED")
        assert (told["trigger"], told["metadata"]) == ("complete", {"by": "hand"})
        assert [each.version for each in await doors.fsm.get_transition_history("17", after=1)] == [
            3
        ]


async def test_an_illegal_transition_is_a_value_that_says_what_was_allowed() -> None:
    async with opened(new_world()) as doors:
        await begun(doors.fsm)
        answer = await doors.fsm.transition_state("17", "PENDING", "COMPLETED", "complete")
        assert isinstance(answer, IllegalTransition)
        assert (answer.state, answer.to_state, answer.trigger) == (
            "PENDING",
            "COMPLETED",
            "complete",
        )
        assert answer.allowed == (Way("fail", "FAILED"), Way("start", "PROCESSING"))
        state = await doors.fsm.get_state("17")
        assert state is not None
        assert (state.state, state.version) == ("PENDING", 1)
        assert list(await doors.fsm.get_transition_history("17")) == []


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED"])
async def test_a_terminal_state_stays_terminal(end: str) -> None:
    async with opened(new_world()) as doors:
        await begun(doors.fsm, "PENDING", "PROCESSING", end)
        for to_state in WORKFLOW.table.states:
            answer = await doors.fsm.transition_state("17", end, to_state)
            assert isinstance(answer, IllegalTransition)
            assert answer.allowed == ()
        state = await doors.fsm.get_state("17")
        assert state is not None
        assert (state.state, state.is_terminal) == (end, True)


async def test_of_two_transitions_from_one_state_one_wins_and_the_other_is_a_value() -> None:
    async with opened(new_world()) as doors:
        await begun(doors.fsm)
        answers = await asyncio.gather(
            doors.fsm.transition_state("17", "PENDING", "PROCESSING"),
            doors.fsm.transition_state("17", "PENDING", "FAILED"),
        )
        won, lost = sorted(answers, key=lambda answer: isinstance(answer, StateDiffers))
        assert isinstance(won, StateCommitted)
        assert isinstance(lost, StateDiffers)
        assert lost.expected_state == "PENDING"
        state = await doors.fsm.get_state("17")
        assert state is not None
        assert lost.actual_state == state.state
        assert lost.allowed == WORKFLOW.table.ways(state.state)
        assert len(await doors.fsm.get_transition_history("17")) == 1


async def test_the_same_id_gets_the_same_answer_however_far_the_workflow_has_come() -> None:
    async with opened(new_world()) as doors:
        await begun(doors.fsm)
        first = uuid4()
        refused = await doors.fsm.transition_state("17", "PENDING", "COMPLETED", action_id=first)
        await doors.fsm.transition_state("17", "PENDING", "PROCESSING")
        again = await doors.fsm.transition_state("17", "PENDING", "COMPLETED", action_id=first)
        assert again == refused
        assert isinstance(again, IllegalTransition)
        assert again.state == "PENDING"


async def test_the_same_id_with_another_question_is_told_so() -> None:
    async with opened(new_world()) as doors:
        await begun(doors.fsm)
        first = uuid4()
        await doors.fsm.transition_state("17", "PENDING", "PROCESSING", action_id=first)
        answer = await doors.fsm.transition_state("17", "PENDING", "FAILED", action_id=first)
        assert isinstance(answer, ReducerGaveUp)
        assert answer.reason == "id_reused"


async def test_a_workflow_is_initialised_once() -> None:
    async with opened(new_world()) as doors:
        await begun(doors.fsm, "PENDING", "PROCESSING")
        answer = await doors.fsm.initialize_workflow("17", {"other": 1})
        assert isinstance(answer, AlreadyInitialized)
        assert answer.state == "PROCESSING"
        state = await doors.fsm.get_state("17")
        assert state is not None
        assert (state.version, state.metadata) == (2, {})


async def test_a_workflow_may_have_a_machine_of_its_own() -> None:
    lamp = TransitionTable("off", ("off", "on"), (Rule("press", ("off",), "on"),))
    async with opened(new_world()) as doors:
        await doors.fsm.initialize_workflow("lamp", machine=Machine("lamp", 1, lamp))
        answer = await doors.fsm.transition_state("lamp", "off", "PROCESSING")
        assert isinstance(answer, IllegalTransition)
        assert answer.allowed == (Way("press", "on"),)
        assert isinstance(await doors.fsm.transition_state("lamp", "off", "on"), StateCommitted)


async def test_another_manager_on_the_same_world_sees_the_same() -> None:
    world = new_world()
    async with opened(world) as doors:
        await begun(doors.fsm, "PENDING", "PROCESSING")
        before = await doors.fsm.get_state("17")
    async with opened(world) as doors:
        assert await doors.fsm.get_state("17") == before
        assert isinstance(
            await doors.fsm.transition_state("17", "PROCESSING", "FAILED"), StateCommitted
        )


async def test_after_a_restart_what_can_still_move_is_found_again() -> None:
    world = new_world()
    async with opened(world) as doors:
        await begun(doors.fsm, "PENDING", workflow_id="new")
        await begun(doors.fsm, "PENDING", "PROCESSING", workflow_id="moving")
        await begun(doors.fsm, "PENDING", "PROCESSING", "COMPLETED", workflow_id="done")
        await begun(doors.fsm, "PENDING", "FAILED", workflow_id="failed")
    async with opened(world) as doors:
        found = [(each.workflow_id, each.state) async for each in doors.fsm.recover_states()]
        assert found == [("moving", "PROCESSING"), ("new", "PENDING")]


async def test_recovery_pages_through_many(monkeypatch: pytest.MonkeyPatch) -> None:
    # A bound only: so few workflows fill several pages.
    monkeypatch.setattr("omninode_bridge.services.fsm_state_manager.PAGE", 2)
    async with opened(new_world()) as doors:
        names = [f"w{n}" for n in range(7)]
        await asyncio.gather(*(doors.fsm.initialize_workflow(name) for name in names))
        found = [each.workflow_id async for each in doors.fsm.recover_states()]
        assert found == names


async def test_each_partition_has_its_transitions_under_dense_offsets() -> None:
    world = new_world()
    async with opened(world) as doors:
        for n in range(6):
            await begun(doors.fsm, "PENDING", "PROCESSING", "COMPLETED", workflow_id=str(n))
    logs = [world.transitions(n) for n in range(PARTITIONS)]
    assert sum(len(log) for log in logs) == 12
    for number, log in enumerate(logs):
        assert [entry.offset for entry in log] == list(range(1, len(log) + 1))
        assert {partition_of(entry.workflow_key, PARTITIONS) for entry in log} <= {number}


@pytest.mark.parametrize("states", [("", "FAILED"), ("PENDING", "\0"), ("PENDING", 1)], ids=str)
async def test_what_is_no_name_is_refused_at_the_door(states: tuple[Any, Any]) -> None:
    async with opened(new_world()) as doors:
        await begun(doors.fsm)
        with pytest.raises(InvalidAction):
            await doors.fsm.transition_state("17", *states)


def test_a_workflow_id_is_the_second_part_of_its_key() -> None:
    assert key_of(str(UUID(int=1))) == f"fsm:{UUID(int=1)}"
