"""The orchestrator's door hands a contract to the runs, and tells what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import pytest
from pydantic import ValidationError

from omninode_bridge.core.errors import OutcomeUnknown
from omninode_bridge.core.message import ReducerGaveUp, StateCommitted, StateConflict
from omninode_bridge.nodes.models import ModelContractEffect, ModelContractOrchestrator
from omninode_bridge.nodes.orchestrator.v1_0_0.node import NodeBridgeOrchestrator
from omninode_bridge.ports import StillUnknown
from tests.doors import Doors, new_world, opened

if TYPE_CHECKING:
    from collections.abc import Mapping

_IDS = UUID(int=0)


class StepsOverTheBus:
    """Runs that ask the store effect step by step, and hear of each outcome by the bus.

    What a step asks for is its own; its id comes of the run's, so that a second run of the same
    workflow repeats nothing. `deaf` runs ask nobody: they wait for what never comes.
    """

    def __init__(self, doors: Doors, *, deaf: bool = False) -> None:
        self._doors = doors
        self._deaf = deaf

    async def __call__(
        self,
        contract: Mapping[str, Any],
        input: Mapping[str, Any],  # noqa: A002 - the plan's word
        /,
        *,
        workflow_id: str,
        timeout: float,  # noqa: ASYNC109 - the port's
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> object:
        versions: list[int] = []
        for number, step in enumerate(contract["steps"]):
            action_id = uuid5(_IDS, f"{workflow_id}/{number}")
            waiting = self._doors.bus.expect(
                (StateCommitted, StateConflict, ReducerGaveUp), action_id
            )
            state = {"count": number + 1, "total": input["amount"]}
            data = {**step, "state_prime": state, "action_id": str(action_id)}
            effect = ModelContractEffect(input_data=data, epoch=epoch, lease_id=lease_id)
            sent = None
            if not self._deaf:
                sent = asyncio.create_task(self._doors.store_effect.execute_effect(effect))
            match await waiting.within(timeout * 1_000):
                case StillUnknown():
                    raise OutcomeUnknown(step["workflow_key"], action_id, timeout)
                case StateCommitted(version=version):
                    versions.append(version)
                case refused:
                    return refused
            if sent is not None:
                await sent
        return versions


def contract(**more: Any) -> ModelContractOrchestrator:  # noqa: ANN401 - handed on as they are
    steps = [
        {"operation": "persist_state", "workflow_key": "counter:1", "expected_version": version}
        for version in (0, 1)
    ]
    return ModelContractOrchestrator(
        workflow_id="run-1", contract={"steps": steps}, input={"amount": 7}, **more
    )


async def test_a_run_asks_waits_by_id_and_its_outcome_is_told() -> None:
    async with opened(new_world()) as doors:
        node = NodeBridgeOrchestrator(StepsOverTheBus(doors))
        lease = UUID(int=9)
        output = await node.orchestrate_workflow(contract(epoch=2, lease_id=lease))
        assert (output.workflow_id, output.outcome) == ("run-1", [1, 2])
        assert output.processing_time_ms > 0
        snapshot = (await doors.world.store.read(["counter:1"]))["counter:1"]
        assert (snapshot.version, snapshot.epoch, snapshot.lease_id) == (2, 2, lease)


async def test_a_run_that_is_asked_for_again_repeats_nothing() -> None:
    async with opened(new_world()) as doors:
        node = NodeBridgeOrchestrator(StepsOverTheBus(doors))
        first = await node.orchestrate_workflow(contract())
        again = await node.orchestrate_workflow(contract())
        assert again.outcome == first.outcome
        assert (await doors.world.store.read(["counter:1"]))["counter:1"].version == 2


async def test_no_outcome_in_time_is_unknown_and_not_failed() -> None:
    async with opened(new_world()) as doors:
        node = NodeBridgeOrchestrator(StepsOverTheBus(doors, deaf=True))
        with pytest.raises(OutcomeUnknown) as error:
            await node.orchestrate_workflow(contract(timeout_ms=1))
        assert error.value.waited_s == 0.001


def test_a_run_has_thirty_seconds_unless_it_is_told_otherwise() -> None:
    assert contract().timeout_ms == 30_000
    with pytest.raises(ValidationError):
        contract(timeout_ms=0)
    with pytest.raises(ValidationError):
        contract(more=1)
