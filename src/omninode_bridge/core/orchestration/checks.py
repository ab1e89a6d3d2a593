"""Whether a contract can work: what is wrong is said before any run begins.

Rule 1: when a step fails whose `on_failure` is `compensate`, everything that can have committed by
        then has an `undo`, or says on purpose that it needs none (`undo: none`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.orchestration.ask_checks import check_asks
from omninode_bridge.core.orchestration.document import ContractFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.core.orchestration.contract import RunContract, RunStep

STEPS_MAX: Final = 100
EFFECT_ATTEMPTS_MAX: Final = 400
"""Of all steps and undos: answers to effects make a chain, which has to stay below `DEPTH_MAX`."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


def check_contract(contract: RunContract) -> None:
    """Pass a contract that can work.

    Raises:
        ContractFault: leading to the first thing that is wrong.
    """
    if not 1 <= len(contract.steps) <= STEPS_MAX:
        raise ContractFault(("steps",), f"a contract has 1 to {STEPS_MAX} steps")
    _check_names(contract)
    _check_order(contract)
    for index, step in enumerate(contract.steps):
        check_asks(contract, ("steps", index), step)
    _check_undos(contract)
    _check_attempts(contract)


def _check_names(contract: RunContract) -> None:
    first: dict[str, int] = {}
    for index, step in enumerate(contract.steps):
        path = ("steps", index, "name")
        if not _NAME.fullmatch(step.name):
            detail = f"a step's name is 1 to 60 letters, digits, - and _, not {step.name!r}"
            raise ContractFault(path, detail)
        if step.name in first:
            detail = f"two steps are called {step.name!r}: rename one of them"
            raise ContractFault(path, detail)
        first[step.name] = index


def _check_order(contract: RunContract) -> None:
    for index, step in enumerate(contract.steps):
        for place, name in enumerate(step.depends_on):
            path = ("steps", index, "depends_on", place)
            if name not in contract:
                known = ", ".join(each.name for each in contract.steps)
                raise ContractFault(path, f"there is no step {name!r}; the steps are {known}")
            if name in step.depends_on[:place]:
                raise ContractFault(path, f"{name!r} is listed twice: keep one of them")
    for index, step in enumerate(contract.steps):
        if step.name in contract.before(step.name):
            way = " -> ".join(_cycle(contract, step.name))
            detail = f"the steps depend on each other in a circle: {way}"
            raise ContractFault(("steps", index, "depends_on"), detail)


def _cycle(contract: RunContract, name: str) -> list[str]:
    """Return a way from `name` back to itself; there is one."""
    way = [name]
    while True:
        way.append(
            next(
                each
                for each in contract.step(way[-1]).depends_on
                if each == name or (name in contract.before(each) and each not in way)
            )
        )
        if way[-1] == name:
            return way


def _check_undos(contract: RunContract) -> None:
    before = {step.name: contract.before(step.name) for step in contract.steps}
    indices = {step.name: index for index, step in enumerate(contract.steps)}
    for failing in contract.steps:
        if failing.on_failure != "compensate":
            continue
        for other in contract.steps:
            if other.undo is None and not other.needs_no_undo and _can_have(failing, other, before):
                why = (
                    "it may turn out to have happened after it has failed"
                    if other is failing
                    else f"it can have committed when {failing.name!r} fails, which is to be"
                    " compensated"
                )
                detail = f"{other.name!r} lacks 'undo': {why}. Add it, or `undo: none`"
                raise ContractFault(("steps", indices[other.name]), detail)


def _can_have(failing: RunStep, other: RunStep, before: Mapping[str, set[str]]) -> bool:
    """Return whether `other` can have committed when `failing` fails."""
    if other is failing:
        # Out of time, it is unknown; and a dead effect may have happened in the world.
        return failing.timeout_ms is not None or failing.ask.kind == "effect"
    return failing.name not in before[other.name]


def _check_attempts(contract: RunContract) -> None:
    attempts = sum(
        each.retry.attempts
        for step in contract.steps
        for each in (step, step.undo)
        if each is not None and each.ask.kind == "effect"
    )
    if attempts > EFFECT_ATTEMPTS_MAX:
        detail = (
            f"the effects of all steps may be asked for {attempts} times;"
            f" {EFFECT_ATTEMPTS_MAX} are allowed: lower 'attempts'"
        )
        raise ContractFault(("steps",), detail)
