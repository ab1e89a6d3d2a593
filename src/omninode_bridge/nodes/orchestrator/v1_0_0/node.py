"""The door to durable runs: a contract and its input in, what the run came to out."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

from omninode_bridge.nodes.models import ModelContractOrchestrator, ModelOrchestratorOutput

if TYPE_CHECKING:
    from omninode_bridge.core.machine import Machine
    from omninode_bridge.ports import Runs


class NodeBridgeOrchestrator:
    """Has a contract carried out, and waits for its outcome."""

    published: ClassVar[tuple[str, ...]] = ()
    intents: ClassVar[tuple[str, ...]] = ()
    machine: ClassVar[Machine | None] = None

    def __init__(self, run: Runs) -> None:
        """`run` keeps the run's state, so that it outlives this process and this door."""
        self._run = run

    async def orchestrate_workflow(
        self, contract: ModelContractOrchestrator
    ) -> ModelOrchestratorOutput:
        """Run `contract` to its end and return what it came to.

        Raises:
            OutcomeUnknown: not within `timeout_ms`. The run goes on; ask again under its id (R9).
        """
        began = perf_counter()
        outcome = await self._run(
            contract.contract,
            contract.input,
            workflow_id=contract.workflow_id,
            timeout=contract.timeout_ms / 1000,
            epoch=contract.epoch,
            lease_id=contract.lease_id,
        )
        took_ms = (perf_counter() - began) * 1000
        return ModelOrchestratorOutput(
            workflow_id=contract.workflow_id, outcome=outcome, processing_time_ms=took_ms
        )
