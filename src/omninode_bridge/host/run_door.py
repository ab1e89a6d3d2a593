"""The door to runs: starts one, waits for its end, takes it over, cancels it.

Rule 1: no run needs us. It goes on by the replies to what it asked for, whoever waits or has gone.
Rule 2: starting twice is starting once: the id of what starts a run is made of all that it says,
        and a run that was started with the same is the same run, however long ago.
Rule 3: who joins a run with a higher epoch takes it over; with the same or a lower one it looks on,
        and so does who comes second with a higher one.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID, uuid5

from omninode_bridge.core.errors import (
    DatabaseUnavailable,
    OutcomeUnknown,
    RunIdReused,
    RunUnknown,
)
from omninode_bridge.core.message import Outcome, ReducerGaveUp, StateCommitted
from omninode_bridge.core.orchestration import (
    RUN_CANCELLED,
    RUN_STARTED,
    RUN_TAKEN_OVER,
    TERMINAL,
    run_key,
    run_outcome,
)
from omninode_bridge.host.run_input import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.core.orchestration import RunContract, RunOutcome
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.entities import ModelWorkflowState
    from omninode_bridge.services.canonical_store import CanonicalStoreService
    from omninode_bridge.services.projection_store import ProjectionStoreService

FIRST_EPOCH: Final = 1
AWAY_S: Final = 0.1
"""Between two looks at a database that is away."""

_STARTS: Final = UUID("6f6d6e69-6e6f-5465-8272-756e00000001")
"""The name space of the ids of what starts runs."""

_SAID_OF_OTHERS: Final = ("rejected", "stale_epoch", "lease_mismatch")
"""Said where somebody was before us: with the same words, perhaps, or with this epoch."""


class Submit(Protocol):
    """How actions are submitted: `Bridge.submit`."""

    async def __call__(
        self,
        key: str,
        type: str,  # noqa: A002 - the design's word
        payload: Mapping[str, Any],
        *,
        action_id: UUID | None = None,
        timeout: float = ...,  # noqa: ASYNC109 - as Bridge.submit
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> Outcome:
        """Submit one action and return its outcome."""
        ...


class RunDoor:
    """Runs, as whoever starts them and waits for them sees them."""

    def __init__(
        self,
        submit: Submit,
        canonical: CanonicalStoreService,
        projections: ProjectionStoreService,
        codec: Codec,
        lease_id: UUID,
    ) -> None:
        """`lease_id` is ours, wherever none is given: it tells one orchestrator from another."""
        self._submit = submit
        self._canonical = canonical
        self._projections = projections
        self._codec = codec
        self._lease_id = lease_id

    async def run(
        self,
        contract: RunContract,
        given: Mapping[str, Any],
        workflow_id: str,
        wait_s: float,
        epoch: int,
        lease_id: UUID | None,
    ) -> RunOutcome:
        """Start a run, or join the one that was started with the same; return how it ended.

        Raises:
            InvalidAction: the input is no JSON object that can be stored.
            GaveUp: it could not be started.
            RunIdReused: a run of this id was started with another contract or input.
            RunUnknown: it has not ended within `wait_s` seconds; it goes on.
        """
        key = run_key(workflow_id)
        said, encoded = words_of(contract, given, self._codec)
        action_id = _start_id(workflow_id, encoded)
        lease_id = self._lease_id if lease_id is None else lease_id
        # Before it is started: so nothing that happens to it can be missed.
        with self._projections.reaching(key, TERMINAL) as ended:
            try:
                async with asyncio.timeout(wait_s):
                    outcome = await self._submit(
                        key,
                        RUN_STARTED,
                        said,
                        action_id=action_id,
                        timeout=wait_s,
                        epoch=epoch,
                        lease_id=lease_id,
                    )
                    if not await self._joined(workflow_id, encoded, outcome):
                        outcome.committed()
                    await self._speak_for(workflow_id, wait_s, epoch, lease_id, outcome)
                    if outcome.duplicate and (found := await self._over(workflow_id)):
                        return found
                    await ended
                    found = await self._over(workflow_id)
            except (TimeoutError, OutcomeUnknown) as error:
                raise RunUnknown(workflow_id, key, action_id, wait_s) from error
        assert found is not None, "a projection is never ahead of its state"
        return found

    async def outcome(self, workflow_id: str) -> RunOutcome | None:
        """Return how far a run is; None when it was never started."""
        row = await self._canonical.get_state(run_key(workflow_id))
        return None if row is None else run_outcome(row.state)

    async def take_over(self, workflow_id: str, lease_id: UUID | None) -> int:
        """Raise the epoch of a run, and return it: words of earlier epochs are stale from now on.

        Raises:
            GaveUp: there is no such run, it is over, or another has taken it over meanwhile.
        """
        key = run_key(workflow_id)
        row = await self._canonical.get_state(key)
        epoch = 1 + ((row and row.provenance.epoch) or 0)
        outcome = await self._submit(
            key, RUN_TAKEN_OVER, {}, epoch=epoch, lease_id=lease_id or self._lease_id
        )
        outcome.committed()
        return epoch

    async def cancel(
        self, workflow_id: str, reason: str, epoch: int | None, lease_id: UUID | None
    ) -> Outcome:
        """Have what committed undone, and nothing more asked for."""
        return await self._submit(
            run_key(workflow_id), RUN_CANCELLED, {"reason": reason}, epoch=epoch, lease_id=lease_id
        )

    async def _joined(self, workflow_id: str, said: bytes, outcome: Outcome) -> bool:
        """Return whether the run is there, started with the same words."""
        if not isinstance(outcome, ReducerGaveUp):
            return True
        if outcome.reason not in _SAID_OF_OTHERS:
            return False
        row = await self._state(workflow_id)
        if row is None:
            return False
        began = {name: row.state[name] for name in ("contract", "input")}
        if self._codec.encode(began) != said:
            raise RunIdReused(workflow_id, outcome.workflow_key, outcome.action_id)
        return True

    async def _speak_for(
        self, workflow_id: str, wait_s: float, epoch: int, lease_id: UUID, outcome: Outcome
    ) -> None:
        """Raise the run's epoch to ours, if it was started with a lower one."""
        if isinstance(outcome, StateCommitted) and outcome.provenance.epoch == epoch:
            return
        row = await self._state(workflow_id)
        if (
            row is None
            or row.state["status"] in TERMINAL
            or epoch <= (row.provenance.epoch or FIRST_EPOCH)
        ):
            return
        key = run_key(workflow_id)
        taken = await self._submit(
            key, RUN_TAKEN_OVER, {}, timeout=wait_s, epoch=epoch, lease_id=lease_id
        )
        # Rejected by a run that has ended meanwhile; or another one was there before us.
        if not isinstance(taken, ReducerGaveUp) or taken.reason not in _SAID_OF_OTHERS:
            taken.committed()

    async def _over(self, workflow_id: str) -> RunOutcome | None:
        """Return how a run has ended; None while it has not."""
        row = await self._state(workflow_id)
        found = None if row is None else run_outcome(row.state)
        return found if found is not None and found.is_over else None

    async def _state(self, workflow_id: str) -> ModelWorkflowState | None:
        """Read until the database answers: who waits for a run has a bound."""
        while True:
            try:
                return await self._canonical.get_state(run_key(workflow_id))
            except DatabaseUnavailable:
                await asyncio.sleep(AWAY_S)


def _start_id(workflow_id: str, said: bytes) -> UUID:
    return uuid5(_STARTS, f"{workflow_id}\0{hashlib.sha256(said).hexdigest()}")
