"""The reducer and the projection of keys `run:<workflow_id>`: a run is a workflow like any other.

A run is started by `RunStarted {contract, input}` and goes on by the replies to what it asked for;
nobody has to be there for it. `RunTakenOver` raises the epoch of its key: words of an orchestrator
of an earlier one are `stale_epoch` from then on. `RunCancelled {reason}` is a person's wish: what
committed is undone.

Rule 1: what does not concern the run as it stands is rejected, so that its history holds only what
        happened to it: replies and timers of attempts that are over are found among the give-ups.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core import message
from omninode_bridge.core.nesting import is_nested_deeper
from omninode_bridge.core.orchestration import states
from omninode_bridge.core.orchestration.answers import read_answer
from omninode_bridge.core.orchestration.asking import NESTING_MAX, known
from omninode_bridge.core.orchestration.book import DEEP
from omninode_bridge.core.orchestration.checks import check_contract
from omninode_bridge.core.orchestration.contract import parse_contract
from omninode_bridge.core.orchestration.document import ContractFault
from omninode_bridge.core.orchestration.templates import MissingReference, references
from omninode_bridge.core.orchestration.turn import Turn
from omninode_bridge.core.projection import Projection
from omninode_bridge.core.reducer import KeyType, Rejection, Transition

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from omninode_bridge.core.message import Action
    from omninode_bridge.core.orchestration.contract import RunContract

_PREFIX: Final = "run:"


def run_key(workflow_id: str) -> str:
    """Return the workflow key of a run."""
    return _PREFIX + workflow_id


def reduce_run(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Return what an action on a run's key leads to."""
    if action.type == states.RUN_STARTED:
        return _start(state, action)
    if not state:
        return Rejection(f"no run was started here: begin with {states.RUN_STARTED}")
    if state["status"] in states.TERMINAL:
        return Rejection(f"the run is over: it is {state['status']}")
    turn = Turn(state, action)
    refused = _take(turn, action)
    return Rejection(refused) if refused else turn.transition()


def _take(turn: Turn, action: Action) -> str:
    """Take what the action brings, and return ""; or why it does not concern the run."""
    match action.type:
        case message.ACTION_ANSWERED | message.EFFECT_ANSWERED:
            answer = read_answer(action)
            return "" if turn.answered(answer) else f"no step waits for {answer.ask_id}"
        case states.STEP_TIMED_OUT:
            step, ask_id = action.payload.get("step"), str(action.payload.get("ask"))
            return "" if turn.timed_out(ask_id) else f"the attempt of {step} was over in time"
        case states.RUN_TAKEN_OVER:
            if action.epoch is None:
                return f"{states.RUN_TAKEN_OVER} needs an epoch, higher than the run's"
            turn.state["epoch"] = action.epoch
            return ""
        case states.RUN_CANCELLED:
            if turn.state["status"] == states.COMPENSATING:
                return "the run is being compensated already"
            reason = action.payload.get("reason") or "no reason given"
            turn.end("compensate", f"cancelled: {reason}")
            return ""
        case _:
            return f"a run does not know {action.type}"


def _start(state: dict[str, Any], action: Action) -> Transition | Rejection:
    if state:
        return Rejection(f"the run was started already: it is {state['status']}")
    if action.depth >= DEEP:
        return Rejection(
            f"a chain that is {action.depth} long can begin no run: its steps need room"
        )
    given = action.payload.get("input")
    if not isinstance(given, dict):
        return Rejection(f"{states.RUN_STARTED} needs an input: an object")
    if is_nested_deeper(given, NESTING_MAX):
        return Rejection(f"the input is nested more than {NESTING_MAX} deep")
    try:
        contract = _checked(json.dumps(action.payload.get("contract")))
    except ContractFault as fault:
        return Rejection(f"the contract: {fault}")
    begun: dict[str, Any] = {
        "workflow_id": action.workflow_key.removeprefix(_PREFIX),
        "name": contract.name,
        "version": contract.version,
        "contract": contract.as_document(),
        "input": given,
        "status": states.RUN_TABLE.initial,
        "detail": "",
        "commits": 0,
        "started_at": action.occurred_at.isoformat(),
        "steps": {step.name: {"status": states.STEP_TABLE.initial} for step in contract.steps},
    }
    # No nulls in a state that is written at each step: they make a codec look twice.
    if action.epoch is not None:
        begun["epoch"] = action.epoch
    missing = _missing(contract, begun)
    if missing:
        return Rejection(missing)
    return Turn(begun, action).transition()


@lru_cache(maxsize=256)
def _checked(text: str) -> RunContract:
    """Return the contract in `text`; the last few are kept: most runs are of few contracts."""
    contract = parse_contract(json.loads(text))
    check_contract(contract)
    return contract


def _missing(contract: RunContract, begun: Mapping[str, Any]) -> str:
    """Return what the input lacks; "" when all that is referred to is there."""
    for step in contract.steps:
        asks = [step.ask] if step.undo is None else [step.ask, step.undo.ask]
        values = known(begun, step.name)
        for template in (part for ask in asks for part in (ask.target, ask.payload)):
            for reference in references(template):
                if reference.path[0] != "input":
                    continue
                try:
                    reference.find(values)
                except MissingReference as error:
                    return f"step {step.name}: {error}"
    return ""


def project_run(
    key: str,  # noqa: ARG001 - the signature every projection has
    state: dict[str, Any],
    action_type: str,  # noqa: ARG001 - the signature it has to have
    committed_at: datetime,  # noqa: ARG001 - the signature it has to have
) -> Projection:
    """Show the status as the tag, the contract as the namespace, and how many steps are how far."""
    counts = Counter(record["status"].lower() for record in state["steps"].values())
    extras = {
        "contract_version": state["version"],
        "started_at": state["started_at"],
        "detail": state["detail"],
    }
    if "ended_at" in state:
        extras["ended_at"] = state["ended_at"]
    return Projection(
        tag=state["status"],
        namespace=state["name"],
        indices={"steps": len(state["steps"]), **counts},
        extras=extras,
    )


RUN: Final = KeyType("run", 1, reduce_run, project_run, fenced=True)
