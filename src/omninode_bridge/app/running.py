"""How an open bridge carries out runs: contracts of several steps, each run a key of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from omninode_bridge.app.asking import Asking
from omninode_bridge.app.declaring import contract_from
from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.core.orchestration import run_key
from omninode_bridge.host import FIRST_EPOCH, RunDoor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from omninode_bridge.app.declaring import App
    from omninode_bridge.core.message import Outcome
    from omninode_bridge.core.orchestration import RunContract, RunOutcome
    from omninode_bridge.core.partition import Partitioning
    from omninode_bridge.infrastructure.entities import ModelWorkflowProjection
    from omninode_bridge.infrastructure.postgres.database import Database

RUN_TIMEOUT_S: Final = 30.0


class Running(Asking):
    """A bridge as whoever starts runs, follows them and takes them over sees it."""

    def __init__(self, app: App, database: Database, partitioning: Partitioning) -> None:
        """`lease_id` is new with each bridge: it tells one orchestrator from another."""
        super().__init__(app, database, partitioning)
        self.lease_id = uuid4()
        self._runs = RunDoor(
            self.submit, self.canonical_store, self.projection_store, self._codec, self.lease_id
        )

    async def run(
        self,
        contract: str | RunContract | Mapping[str, Any] | Path,
        input: Mapping[str, Any],  # noqa: A002 - the contract's word
        *,
        workflow_id: str | None = None,
        timeout: float = RUN_TIMEOUT_S,  # noqa: ASYNC109 - the run goes on then
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> RunOutcome:
        """Start a run of `contract`, wait for its end, and return how it ended.

        `contract` is the name of a declared workflow, a file, or a contract. The run is the key
        `run:<workflow_id>`; without an id it gets a new one. It is durable and needs nobody to wait
        for it: asked again with the same id, contract and input, it is the same run. `epoch` (the
        first) and `lease_id` (this bridge's own) say which orchestrator speaks: see `take_over`. A
        run that was started with a lower epoch is taken over.

        Raises:
            RunUnknown: it has not ended within `timeout` seconds. It goes on.
            InvalidAction: the input is no JSON object that can be stored; `field` names the part.
            GaveUp: it was not started: the input lacks something.
            RunIdReused: a run of this id was started with another contract or input.
            ContractError: the contract cannot work.
            ConfigurationError: it asks for effects that this application does not declare.
        """
        found = self._contract(contract)
        self._require_effects(found)
        name = str(uuid4()) if workflow_id is None else workflow_id
        first = FIRST_EPOCH if epoch is None else epoch
        return await self._runs.run(found, input, name, timeout, first, lease_id)

    async def run_outcome(self, workflow_id: str) -> RunOutcome | None:
        """Return how far a run is, or how it ended; None: never started."""
        return await self._runs.outcome(workflow_id)

    async def runs(
        self, *, tag: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[ModelWorkflowProjection]:
        """Return a page of runs in the order of their keys; `tag` is their status.

        `after` is the workflow id of the last run of the page before.
        """
        above = None if after is None else run_key(after)
        return await self.projection_store.list_runs(tag=tag, after=above, limit=limit)

    async def take_over(self, workflow_id: str, *, lease_id: UUID | None = None) -> int:
        """Become the orchestrator of a run: raise its epoch, and return it.

        What an earlier orchestrator still says of the run is given up as `stale_epoch`.

        Raises:
            GaveUp: there is no such run, it is over, or another took it over at this moment.
        """
        return await self._runs.take_over(workflow_id, lease_id)

    async def cancel_run(
        self,
        workflow_id: str,
        reason: str = "",
        *,
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> Outcome:
        """Ask for nothing more in a run, and undo what committed; return the outcome of the wish.

        An orchestrator says its `epoch` and `lease_id`; a person needs none.
        """
        return await self._runs.cancel(workflow_id, reason, epoch, lease_id)

    def _require_effects(self, contract: RunContract) -> None:
        """Refuse what would wait for ever: an effect that nobody handles is never over."""
        lacking = sorted(contract.effects() - self.app.effect_types().keys())
        if lacking:
            message = (
                f"the contract {contract.name!r} asks for effects that this application does not"
                f" declare: {', '.join(lacking)}. The run would wait for ever: declare them with"
                " App.effect, or start the run where they are declared"
            )
            raise ConfigurationError(message)

    def _contract(self, contract: str | RunContract | Mapping[str, Any] | Path) -> RunContract:
        if not isinstance(contract, str):
            return contract_from(contract)
        found = self.app.workflows().get(contract)
        if found is None:
            known = ", ".join(sorted(self.app.workflows())) or "none"
            message = f"no workflow {contract!r} is declared (declared: {known})"
            raise ConfigurationError(message)
        return found
