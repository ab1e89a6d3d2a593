"""The store effect's door commits, answers and publishes; it refuses what it was not made for."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from omninode_bridge.core import topics
from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.fsm_workflow import IllegalTransition, StateDiffers, UnknownWorkflow
from omninode_bridge.core.message import ReducerGaveUp, StateCommitted, StateConflict
from omninode_bridge.core.observation import EventPublished
from omninode_bridge.core.our_key_types import HOW_OURS_MOVE, OUR_KEY_TYPES
from omninode_bridge.core.terms import COUNT_MAX
from omninode_bridge.nodes.models import ModelContractEffect
from tests.bridges import WAIT_S
from tests.doors import Doors, new_world, opened

EVERY = (StateCommitted, StateConflict, ReducerGaveUp)


def persist(version: int, action_id: UUID, **more: Any) -> ModelContractEffect:  # noqa: ANN401 - handed on as they are
    terms = {name: more.pop(name) for name in ("epoch", "lease_id") if name in more}
    return ModelContractEffect(
        input_data={
            "operation": "persist_state",
            "workflow_key": "counter:1",
            "expected_version": version,
            "state_prime": {"count": version + 1, "total": 7},
            "action_id": str(action_id),
            **more,
        },
        **terms,
    )


def go(from_state: str, to_state: str, **more: object) -> ModelContractEffect:
    return ModelContractEffect(
        input_data={
            "operation": "fsm_transition",
            "workflow_id": "17",
            "from_state": from_state,
            "to_state": to_state,
            **more,
        },
    )


def published(doors: Doors) -> list[EventPublished]:
    return [fact for fact in doors.facts if isinstance(fact, EventPublished)]


async def test_a_state_that_is_persisted_is_answered_and_published() -> None:
    async with opened(new_world()) as doors:
        action_id, lease = uuid4(), uuid4()
        waiting = doors.bus.expect(EVERY, action_id)
        effect = persist(0, action_id, epoch=3, lease_id=lease)
        answer = await doors.store_effect.execute_effect(effect)
        assert isinstance(answer, StateCommitted)
        assert (answer.version, answer.action_id) == (1, action_id)
        assert await waiting.within(WAIT_S * 1_000) == answer
        told = answer.provenance
        assert (told.effect_id, told.epoch, told.lease_id) == (effect.effect_id, 3, lease)
        assert (await doors.world.store.read(["counter:1"]))["counter:1"].version == 1


async def test_a_conflict_is_answered_with_the_actual_version_and_writes_nothing() -> None:
    async with opened(new_world()) as doors:
        await doors.store_effect.execute_effect(persist(0, uuid4()))
        before = (await doors.world.store.read(["counter:1"]))["counter:1"]
        action_id = uuid4()
        waiting = doors.bus.expect(EVERY, action_id)
        answer = await doors.store_effect.execute_effect(persist(0, action_id))
        assert answer == StateConflict("counter:1", 0, 1, action_id)
        assert await waiting.within(WAIT_S * 1_000) == answer
        assert (await doors.world.store.read(["counter:1"]))["counter:1"] == before
        assert published(doors)[-1] == EventPublished(topics.STATE_CONFLICT, "StateConflict", 1)


async def test_a_transition_is_answered_and_published_whatever_came_of_it() -> None:
    async with opened(new_world()) as doors:
        unknown = await doors.store_effect.execute_effect(go("PENDING", "PROCESSING"))
        assert isinstance(unknown, UnknownWorkflow)
        await doors.fsm.initialize_workflow("17")
        went = await doors.store_effect.execute_effect(
            go("PENDING", "PROCESSING", trigger="start", metadata={"by": "hand"})
        )
        assert isinstance(went, StateCommitted)
        differs = await doors.store_effect.execute_effect(go("PENDING", "FAILED"))
        assert isinstance(differs, StateDiffers)
        illegal = await doors.store_effect.execute_effect(go("PROCESSING", "PENDING"))
        assert isinstance(illegal, IllegalTransition)
        assert [fact.event for fact in published(doors)] == [
            "ReducerGaveUp",
            "StateCommitted",
            "ReducerGaveUp",
            "ReducerGaveUp",
        ]


async def test_a_refused_transition_is_told_to_who_waits_for_its_id() -> None:
    async with opened(new_world()) as doors:
        await doors.fsm.initialize_workflow("17")
        action_id = uuid4()
        waiting = doors.bus.expect(EVERY, action_id)
        answer = await doors.store_effect.execute_effect(
            go("PENDING", "COMPLETED", action_id=str(action_id))
        )
        assert isinstance(answer, IllegalTransition)
        assert await waiting.within(WAIT_S * 1_000) == answer.outcome


async def test_a_state_machine_cannot_be_persisted_past_its_rules() -> None:
    async with opened(new_world()) as doors:
        await doors.fsm.initialize_workflow("17")
        with pytest.raises(InvalidAction, match="a state machine is moved by fsm_transition"):
            await doors.store_effect.execute_effect(
                persist(1, uuid4(), workflow_key="fsm:17", state_prime={"state": "COMPLETED"})
            )


@pytest.mark.parametrize("key_type", OUR_KEY_TYPES)
async def test_no_key_of_the_bridges_own_is_replaced(key_type: str) -> None:
    assert HOW_OURS_MOVE.keys() == OUR_KEY_TYPES.keys()
    async with opened(new_world()) as doors:
        with pytest.raises(InvalidAction, match="moves by its own rules only: a ") as error:
            await doors.store_effect.execute_effect(
                persist(0, uuid4(), workflow_key=f"{key_type}:17", state_prime={"status": "DONE"})
            )
        assert error.value.field == "workflow_key"
        assert await doors.world.store.read([f"{key_type}:17"]) == {}


@pytest.mark.parametrize("epoch", [COUNT_MAX + 1, 2**64, -1])
def test_an_epoch_that_no_store_holds_is_refused_at_the_door(epoch: int) -> None:
    assert persist(0, uuid4(), epoch=COUNT_MAX).epoch == COUNT_MAX
    with pytest.raises(ValidationError, match="epoch"):
        persist(0, uuid4(), epoch=epoch)


@pytest.mark.parametrize(
    ("input_data", "field"),
    [
        ({}, "operation"),
        ({"operation": "delete_everything"}, "operation"),
        (persist(0, uuid4(), more=1).input_data, "more"),
        (persist(0, uuid4(), workflow_key="nokey").input_data, "workflow_key"),
        (persist(0, uuid4(), expected_version=-1).input_data, "expected_version"),
        (persist(0, uuid4(), expected_version=2**63).input_data, "expected_version"),
        (go("PENDING", "").input_data, "to_state"),
        ({"operation": "fsm_transition"}, "workflow_id"),
    ],
)
async def test_what_is_no_operation_is_refused_by_its_field(
    input_data: dict[str, Any], field: str
) -> None:
    async with opened(new_world()) as doors:
        with pytest.raises(InvalidAction) as error:
            await doors.store_effect.execute_effect(ModelContractEffect(input_data=input_data))
        assert error.value.field == field
        assert published(doors) == []


async def test_what_cannot_be_committed_is_an_error_and_is_not_published() -> None:
    async with opened(new_world()) as doors:
        with pytest.raises(ValueError, match="cannot be committed"):
            await doors.store_effect.execute_effect(
                persist(0, uuid4(), state_prime={"no": "count"})
            )
        assert published(doors) == []
