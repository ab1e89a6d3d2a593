"""Whether what a step and its undo ask for can be made: names, keys, and what templates refer to.

Rule 1: a reference may only lead to what is known by then: the input, the run's own names, and
        steps that this one depends on, directly or not.
Rule 2: an undo does not refer to the result of its own effect: one that only may have happened, and
        is undone for that, has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import (
    CANCEL_EFFECT,
    FOLLOW_UPS,
    FSM_STATE_TRANSITIONED,
    check_name,
)
from omninode_bridge.core.nesting import is_nested_deeper
from omninode_bridge.core.orchestration.asking import NESTING_MAX
from omninode_bridge.core.orchestration.document import ContractFault
from omninode_bridge.core.orchestration.templates import parse, references
from omninode_bridge.core.reducer import check_action_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omninode_bridge.core.orchestration.contract import Ask, RunContract, RunStep
    from omninode_bridge.core.orchestration.document import Path
    from omninode_bridge.core.orchestration.templates import Reference

_OURS: Final = FOLLOW_UPS | {CANCEL_EFFECT, FSM_STATE_TRANSITIONED}


def check_asks(contract: RunContract, path: Path, step: RunStep) -> None:
    """Pass a step, at `path` of the document, whose asks can be made.

    Raises:
        ContractFault: leading to the first thing that is wrong.
    """
    known = contract.before(step.name)
    _check_ask(contract, (*path, step.ask.kind), step.ask, known)
    if step.undo is not None:
        undo_path = (*path, "undo", step.undo.ask.kind)
        _check_ask(contract, undo_path, step.undo.ask, known | {step.name})
        _check_own_result(undo_path, step, step.undo.ask)


def _check_own_result(path: Path, step: RunStep, undo: Ask) -> None:
    """Refuse an undo that could not be asked for just when nobody knows what has happened."""
    if step.ask.kind != "effect":
        return
    target = "key" if undo.kind == "action" else "target"
    for field, template in ((target, undo.target), ("payload", undo.payload)):
        for place, reference in _places((*path, field), template):
            if reference.path[:3] == ("steps", step.name, "result"):
                detail = (
                    f"{reference}: {step.name!r} is undone also when it only may have happened, and"
                    " then it has no result: use what it was asked with, such as {input...} or"
                    " {step_id}"
                )
                raise ContractFault(place, detail)


def _check_ask(contract: RunContract, path: Path, ask: Ask, known: set[str]) -> None:
    is_action = ask.kind == "action"
    name_path = (*path, "type" if is_action else "name")
    try:
        if is_action:
            check_action_type(ask.name)
        else:
            check_name("name", ask.name)
    except InvalidAction as error:
        raise ContractFault(name_path, f"{ask.name!r}: {error.detail}") from error
    if not is_action and ask.name in _OURS:
        raise ContractFault(name_path, f"{ask.name} is carried out by the bridge itself")
    target_path = (*path, "key" if is_action else "target")
    _check_references(contract, target_path, ask.target, known)
    if is_action:
        prefix = next(iter(parse(ask.target)), "")
        if not isinstance(prefix, str) or prefix.find(":") < 1:
            detail = (
                "'key' must begin with the type of the key and a colon, such as"
                f' "order:{{input.id}}", not {ask.target!r}'
            )
            raise ContractFault(target_path, detail)
    if is_nested_deeper(ask.payload, NESTING_MAX):
        raise ContractFault((*path, "payload"), f"is nested more than {NESTING_MAX} deep")
    _check_references(contract, (*path, "payload"), ask.payload, known)


def _check_references(contract: RunContract, path: Path, template: object, known: set[str]) -> None:
    for place, reference in _places(path, template):
        detail = _wrong(contract, reference, known)
        if detail:
            raise ContractFault(place, f"{reference}: {detail}")


def _places(path: Path, template: object) -> Iterator[tuple[Path, Reference]]:
    """Yield the references of `template`, each with the innermost place that it stands in."""
    match template:
        case dict():
            for name, each in template.items():
                yield from _places((*path, name), each)
        case list():
            for index, each in enumerate(template):
                yield from _places((*path, index), each)
        case str():
            try:
                found = list(references(template))
            except ValueError as error:
                raise ContractFault(path, str(error)) from error
            for reference in found:
                yield path, reference
        case _:
            pass


def _wrong(contract: RunContract, reference: Reference, known: set[str]) -> str:
    """Return what is wrong with a reference; "" when it may lead somewhere."""
    match reference.path:
        case ("input", *_) | ("workflow_id",) | ("step_id",):
            return ""
        case ("steps", name, *_) if name not in contract:
            steps = ", ".join(each.name for each in contract.steps)
            return f"there is no step {name!r}; the steps are {steps}"
        case ("steps", name, *_) if name not in known:
            return f"this step does not depend on {name!r}, which may come later: add depends_on"
        case ("steps", name, "result", *_) if contract.step(name).ask.kind == "effect":
            return ""
        case ("steps", name, "version") if contract.step(name).ask.kind == "action":
            return ""
        case ("steps", name, *_):
            has = "result" if contract.step(name).ask.kind == "effect" else "version"
            return f"of {name!r} there is steps.{name}.{has}"
        case _:
            return "known are input.*, workflow_id, step_id, steps.*.result.* and steps.*.version"
