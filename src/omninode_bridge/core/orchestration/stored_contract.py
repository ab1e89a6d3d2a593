"""The contract in the state of a run that has begun: taken as it is.

Rule 1: nothing is checked. It was, by the release that began the run; what a later one would refuse
        still has to be carried to its end, or nobody would undo what it has done.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from omninode_bridge.core.orchestration.contract import (
    NO_UNDO,
    Ask,
    Retry,
    RunContract,
    RunStep,
    Undo,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    Document = dict[str, Any]


def restore_contract(document: Mapping[str, Any]) -> RunContract:
    """Return the contract that `RunContract.as_document` gave; the last few are kept."""
    return _restored(json.dumps(document))


@lru_cache(maxsize=256)
def _restored(text: str) -> RunContract:
    document = json.loads(text)
    steps = tuple(_step(each) for each in document["steps"])
    return RunContract(document["name"], document["version"], steps)


def _step(document: Document) -> RunStep:
    undo = document.get("undo")
    return RunStep(
        document["name"],
        tuple(document["depends_on"]),
        _ask(document),
        None if undo is None or undo == NO_UNDO else _undo(undo),
        undo == NO_UNDO,
        _retry(document["retry"]),
        document.get("timeout_ms"),
        document["on_failure"],
    )


def _ask(document: Document) -> Ask:
    if "action" in document:
        found = document["action"]
        return Ask("action", found["type"], found["key"], found["payload"])
    found = document["effect"]
    return Ask("effect", found["name"], found["target"], found["payload"])


def _undo(document: Document) -> Undo:
    return Undo(_ask(document), _retry(document["retry"]), document.get("timeout_ms"))


def _retry(document: Document) -> Retry:
    reasons = tuple(document["reasons"])
    return Retry(document["attempts"], document["base_ms"], document["cap_ms"], reasons)
