"""A workflow that is a state machine: the keys `fsm:<workflow id>`, their reducer and projection.

Rule 1: the machine comes with the action that initialises a key, and stays in its state. So history
        is folded without any file, and a workflow ends by the rules it began with.
Rule 2: every change asks for a way from the state it believes in; in another state it is refused.
Rule 3: each transition that happens is told once, as an intent of its commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.machine import Machine, machine_of
from omninode_bridge.core.message import FSM_STATE_TRANSITIONED, Intent
from omninode_bridge.core.projection import Projection
from omninode_bridge.core.reducer import KeyType, Rejection, Transition

if TYPE_CHECKING:
    from datetime import datetime

    from omninode_bridge.core.fsm import Way
    from omninode_bridge.core.message import Action, ReducerGaveUp

KEY_TYPE: Final = "fsm"
INITIALIZED: Final = "FsmInitialized"
TRANSITION_ASKED: Final = "FsmTransitionAsked"
ACTIVE: Final = "fsm-active"
"""The namespace of workflows that can still move."""

ENDED: Final = "fsm-ended"
"""The namespace of workflows in a terminal state."""

_ASKED_FIELDS: Final = frozenset({"from_state", "to_state", "trigger", "metadata"})


@dataclass(frozen=True, slots=True)
class WorkflowState:
    """Where a workflow is: `state` of `machine`, after `version` actions."""

    workflow_id: str
    state: str
    version: int
    machine: Machine
    metadata: dict[str, Any]

    @property
    def is_terminal(self) -> bool:
        """Whether nothing leads on from here."""
        return not self.machine.table.ways(self.state)


@dataclass(frozen=True, slots=True)
class IllegalTransition:
    """There is no such way from `state`; `allowed` are those there are, none in a terminal state.

    `outcome` is what stands in the log under the action's id.
    """

    workflow_id: str
    state: str
    to_state: str
    trigger: str | None
    allowed: tuple[Way, ...]
    outcome: ReducerGaveUp


@dataclass(frozen=True, slots=True)
class StateDiffers:
    """The workflow was in `actual_state`, not where the asker believed it; `allowed` is from there.

    `outcome` is what stands in the log under the action's id.
    """

    workflow_id: str
    expected_state: str
    actual_state: str
    allowed: tuple[Way, ...]
    outcome: ReducerGaveUp


@dataclass(frozen=True, slots=True)
class UnknownWorkflow:
    """Nobody has initialised that workflow."""

    workflow_id: str
    outcome: ReducerGaveUp


@dataclass(frozen=True, slots=True)
class AlreadyInitialized:
    """The workflow is there already, in `state`; it was left as it is."""

    workflow_id: str
    state: str
    outcome: ReducerGaveUp


def key_of(workflow_id: str) -> str:
    """Return the workflow key of `workflow_id`."""
    return f"{KEY_TYPE}:{workflow_id}"


def workflow_id_of(workflow_key: str) -> str:
    """Return the workflow id of a key that `key_of` gave."""
    return workflow_key.partition(":")[2]


def read_state(workflow_key: str, version: int, state: dict[str, Any]) -> WorkflowState:
    """Return what the state of a key says."""
    machine = machine_of(state["machine"])
    workflow_id = workflow_id_of(workflow_key)
    return WorkflowState(workflow_id, state["state"], version, machine, state["metadata"])


def reduce(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Initialise a workflow, or let it go a way that its machine has."""
    match action.type:
        case str() as name if name == INITIALIZED:
            return _initialize(state, action.payload)
        case str() as name if name == TRANSITION_ASKED:
            return _go(state, action)
        case other:
            return Rejection(f"a workflow of a state machine knows no {other!r}")


def project(
    workflow_key: str,  # noqa: ARG001 - the signature every projection has
    state: dict[str, Any],
    action_type: str,  # noqa: ARG001 - the signature it has to have
    committed_at: datetime,  # noqa: ARG001 - the signature it has to have
) -> Projection:
    """Show the state as the tag; the namespace parts those that can still move from the others."""
    machine = machine_of(state["machine"])
    namespace = ACTIVE if machine.table.ways(state["state"]) else ENDED
    indices = {"machine": machine.name, "machine_version": machine.version}
    return Projection(state["state"], namespace, indices)


FSM_WORKFLOWS: Final = KeyType(KEY_TYPE, 1, reduce, project)


def _initialize(state: dict[str, Any], payload: dict[str, Any]) -> Transition | Rejection:
    if state:
        return Rejection(f"it is initialised already, and {state['state']}")
    try:
        machine = machine_of(payload.get("machine"))
    except ValueError as error:
        return Rejection(f"its machine cannot work: {error}")
    metadata = payload.get("metadata", {})
    if payload.keys() - {"machine", "metadata"} or not isinstance(metadata, dict):
        return Rejection("it is initialised with a machine and metadata (an object), and no more")
    begun = {"machine": machine.as_dict(), "state": machine.table.initial, "metadata": metadata}
    return Transition(begun)


def _go(state: dict[str, Any], action: Action) -> Transition | Rejection:
    asked = action.payload
    metadata = asked.get("metadata", {})
    if not {"from_state", "to_state"} <= asked.keys() <= _ASKED_FIELDS or not isinstance(
        metadata, dict
    ):
        return Rejection("ask with from_state and to_state, perhaps trigger and metadata")
    if not state:
        return Rejection("it is not initialised")
    machine, now = machine_of(state["machine"]), state["state"]
    ways = ", ".join(f"{way.trigger} to {way.target}" for way in machine.table.ways(now))
    allowed = f"allowed: {ways or 'nothing, it is a terminal state'}"
    if now != asked["from_state"]:
        return Rejection(f"it is {now}, not {asked['from_state']}; {allowed}")
    way = machine.table.way(now, asked["to_state"], asked.get("trigger"))
    if way is None:
        by = f" by {asked['trigger']!r}" if asked.get("trigger") is not None else ""
        return Rejection(f"{now} does not become {asked['to_state']}{by}; {allowed}")
    told = {
        "workflow_id": workflow_id_of(action.workflow_key),
        "from_state": now,
        "to_state": way.target,
        "trigger": way.trigger,
        "machine": machine.name,
        "machine_version": machine.version,
        "metadata": metadata,
    }
    intent = Intent(FSM_STATE_TRANSITIONED, action.workflow_key, told)
    return Transition({**state, "state": way.target}, (intent,))
