"""Workflows that are state machines: begin them, move them, and find them again after a restart.

Rule 1: nothing is held here. The truth is the key's canonical state, its past is the topic
        `fsm-state-transitioned`; two managers, or one after a crash, see the same.
Rule 2: every change is an action like any other: the reducer decides (`core/fsm_workflow.py`), once
        per action id, and what it refused is told as a value that says what was allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.fsm_workflow import (
    ACTIVE,
    INITIALIZED,
    TRANSITION_ASKED,
    AlreadyInitialized,
    IllegalTransition,
    StateDiffers,
    UnknownWorkflow,
    WorkflowState,
    key_of,
    read_state,
)
from omninode_bridge.core.message import ReducerGaveUp, check_name, check_workflow_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from omninode_bridge.core.machine import Machine
    from omninode_bridge.core.message import Outcome
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.ports import (
        CanonicalStore,
        LoggedTransition,
        ProjectionList,
        Submit,
        TransitionLog,
        WentOrNot,
    )

PAGE: Final = 500
HISTORY_MAX: Final = 1_000


class FSMStateManager:
    """The workflows `fsm:<workflow id>`. `machine` is what they go by unless they are told another.

    `caught_up` returns when the projection shows all that was committed before it was called.
    """

    def __init__(
        self,
        *,
        submit: Submit,
        store: CanonicalStore,
        transitions: TransitionLog,
        projections: ProjectionList,
        caught_up: Callable[[], Awaitable[None]],
        codec: Codec,
        machine: Machine,
    ) -> None:
        """Take what it asks and reads with."""
        self._submit = submit
        self._store = store
        self._transitions = transitions
        self._projections = projections
        self._caught_up = caught_up
        self._codec = codec
        self._machine = machine

    async def initialize_workflow(
        self,
        workflow_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        machine: Machine | None = None,
        action_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> Outcome | AlreadyInitialized:
        """Begin a workflow in the initial state of its machine, which it keeps for good.

        Raises:
            InvalidAction: `workflow_id` or `metadata` cannot be stored.
            OutcomeUnknown: no answer in time; ask again under the same `action_id`.
        """
        payload = {
            "machine": (machine or self._machine).as_dict(),
            "metadata": dict(metadata or {}),
        }
        outcome = await self._submit(
            key_of(workflow_id),
            INITIALIZED,
            payload,
            action_id=action_id,
            correlation_id=correlation_id,
        )
        if not isinstance(outcome, ReducerGaveUp) or outcome.reason != "rejected":
            return outcome
        if outcome.version == 0:  # its machine cannot work
            return outcome
        state, _ = await self._at(workflow_id, outcome.version)
        return AlreadyInitialized(workflow_id, state, outcome)

    async def transition_state(
        self,
        workflow_id: str,
        from_state: str,
        to_state: str,
        trigger: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        action_id: UUID | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> WentOrNot:
        """Go from `from_state` to `to_state`, if that is where it is and if its machine allows it.

        Without a `trigger` any way between the two will do. The answer is a commit with its
        version, or what was refused and what would have been allowed at that moment; the same
        `action_id` gets the same answer (R3).

        Raises:
            InvalidAction: something of it cannot be stored.
            OutcomeUnknown: no answer in time; ask again under the same `action_id`.
        """
        payload: dict[str, Any] = {
            "from_state": check_name("from_state", from_state),
            "to_state": check_name("to_state", to_state),
            "metadata": dict(metadata or {}),
        }
        if trigger is not None:
            payload["trigger"] = check_name("trigger", trigger)
        outcome = await self._submit(
            key_of(workflow_id),
            TRANSITION_ASKED,
            payload,
            action_id=action_id,
            epoch=epoch,
            lease_id=lease_id,
            correlation_id=correlation_id,
        )
        if not isinstance(outcome, ReducerGaveUp) or outcome.reason != "rejected":
            return outcome
        if outcome.version == 0:
            return UnknownWorkflow(workflow_id, outcome)
        state, machine = await self._at(workflow_id, outcome.version)
        allowed = machine.table.ways(state)
        if state != from_state:
            return StateDiffers(workflow_id, from_state, state, allowed, outcome)
        return IllegalTransition(workflow_id, state, to_state, trigger, allowed, outcome)

    async def get_state(self, workflow_id: str) -> WorkflowState | None:
        """Return where a workflow is by its canonical state; None: nobody has initialised it."""
        found = await self._read([check_workflow_key(key_of(workflow_id))])
        return found[0] if found else None

    async def get_transition_history(
        self, workflow_id: str, *, after: int = 0, limit: int = HISTORY_MAX
    ) -> Sequence[LoggedTransition]:
        """Return up to `limit` transitions in order, from behind the offset `after` on."""
        key = check_workflow_key(key_of(workflow_id))
        return await self._transitions.history(key, after, limit)

    async def recover_states(self) -> AsyncIterator[WorkflowState]:
        """Yield every workflow that can still move, in the order of their keys.

        All that were committed before the call and have not ended since, as they are when they are
        yielded; those that begin meanwhile may be among them.

        Raises:
            TimeoutError: the projection did not catch up.
        """
        await self._caught_up()
        after: str | None = None
        while page := await self._projections.list(namespace=ACTIVE, after=after, limit=PAGE):
            after = page[-1].workflow_key
            for workflow in await self._read([row.workflow_key for row in page]):
                if not workflow.is_terminal:
                    yield workflow

    async def _read(self, keys: Sequence[str]) -> list[WorkflowState]:
        stored = await self._store.read(keys)
        return [
            read_state(key, stored[key].version, self._codec.decode(stored[key].state))
            for key in keys
            if key in stored
        ]

    async def _at(self, workflow_id: str, version: int) -> tuple[str, Machine]:
        """Return the state at `version`, which is the past by now, and the machine."""
        (workflow,) = await self._read([key_of(workflow_id)])
        last = await self._transitions.last(key_of(workflow_id), version)
        if last is None:
            return workflow.machine.table.initial, workflow.machine
        state: str = self._codec.decode(last.transition)["to_state"]
        return state, workflow.machine
