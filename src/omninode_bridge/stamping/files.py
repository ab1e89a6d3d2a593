"""What a stamped file is, what a namespace's totals are, and how one makes the other. Pure (R1).

Rule 1: the difference a stamp makes to the totals is computed from the state the reducer is given,
        never from what the asker believed. So the totals are the sum over the files in whatever
        order, and however often, runs ask.
Rule 2: the totals are a follow-up action's (R10): applied exactly once for each stamp and removal.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge import Action, App, Intent, Projection, Rejection, Transition
from omninode_bridge.stamping.keys import namespace_key, parts_of

if TYPE_CHECKING:
    from datetime import datetime

STAMP_FILE: Final = "StampFile"
REMOVE_FILE: Final = "RemoveFile"
TOTALS_CHANGED: Final = "TotalsChanged"
STAMPED: Final = "stamped"
REMOVED: Final = "removed"
TOTALS: Final = "totals"
METADATA_VERSION: Final = "0.1"

app = App("stamping")


@app.reducer("file")
def reduce_file(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Stamp a file, or take it out of the totals."""
    match action.type:
        case "StampFile":
            return _stamp(state, action)
        case "RemoveFile":
            return _remove(state, action)
        case _:
            return Rejection(f"a file takes {STAMP_FILE} and {REMOVE_FILE}, not {action.type}")


@app.reducer("namespace")
def reduce_namespace(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Add a difference to the totals."""
    if action.type != TOTALS_CHANGED:
        return Rejection(f"a namespace takes {TOTALS_CHANGED}, not {action.type}")
    change = action.payload
    return Transition(
        {
            "files": state.get("files", 0) + change["files"],
            "total_stamps": state.get("total_stamps", 0) + change["stamps"],
            "total_size_bytes": state.get("total_size_bytes", 0) + change["bytes"],
            "content_types": _added(state.get("content_types", {}), change["content_types"]),
        }
    )


@app.projection("file")
def project_file(
    key: str,
    state: dict[str, Any],
    action_type: str,  # noqa: ARG001 - the signature every projection has
    committed_at: datetime,  # noqa: ARG001
) -> Projection:
    """Project a file: its status and namespace to list by, its hash and size."""
    indices = {"file_hash": state["file_hash"], "file_size": state["file_size"]}
    return Projection(state["status"], parts_of(key)[0], indices)


@app.projection("namespace")
def project_namespace(
    key: str,
    state: dict[str, Any],
    action_type: str,  # noqa: ARG001 - the signature every projection has
    committed_at: datetime,  # noqa: ARG001
) -> Projection:
    """Project the totals."""
    indices = {what: state[what] for what in ("files", "total_stamps", "total_size_bytes")}
    return Projection(TOTALS, key.removeprefix("namespace:"), indices)


def _stamp(state: dict[str, Any], action: Action) -> Transition | Rejection:
    namespace, path = parts_of(action.workflow_key)
    if not namespace or not path:
        return Rejection("the key of a file is file:<namespace>/<path>")
    file_hash, size = action.payload["file_hash"], action.payload["file_size"]
    if state.get("status") == STAMPED and state["file_hash"] == file_hash:
        return Rejection(f"already stamped with {file_hash}")
    content_type = action.payload["content_type"]
    stamped = {
        "stamp_id": str(action.action_id),
        "file_hash": file_hash,
        "file_path": path,
        "file_size": size,
        "namespace": namespace,
        "content_type": content_type,
        "created_at": action.occurred_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "metadata_version": METADATA_VERSION,
        "status": STAMPED,
    }
    return Transition(stamped, (_totals_changed(namespace, state, stamped),))


def _remove(state: dict[str, Any], action: Action) -> Transition | Rejection:
    if state.get("status") != STAMPED:
        return Rejection("there is no stamp to remove")
    if state["file_hash"] != action.payload["file_hash"]:
        return Rejection(f"stamped anew since, with {state['file_hash']}")
    removed = state | {"status": REMOVED}
    return Transition(removed, (_totals_changed(state["namespace"], state, removed),))


def _totals_changed(namespace: str, before: dict[str, Any], after: dict[str, Any]) -> Intent:
    """Ask for the difference between two states of one file to be added to the totals."""
    content_types: dict[str, dict[str, int]] = {}
    for sign, state in ((-1, before), (1, after)):
        if state.get("status") == STAMPED:
            share = content_types.setdefault(state["content_type"], {"files": 0, "bytes": 0})
            share["files"] += sign
            share["bytes"] += sign * state["file_size"]
    difference = {
        "files": sum(share["files"] for share in content_types.values()),
        "stamps": int(after["status"] == STAMPED),
        "bytes": sum(share["bytes"] for share in content_types.values()),
        "content_types": content_types,
    }
    return Intent.submit(namespace_key(namespace), TOTALS_CHANGED, difference)


def _added(totals: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Add two tables of shares; a content type without files is no longer there.

    The differences of one file arrive in the order in which they were made (R10), so none is
    there without its predecessors, and a content type without files has no bytes either.
    """
    sums = dict(totals)
    for content_type, more in change.items():
        share = sums.get(content_type, {"files": 0, "bytes": 0})
        sums[content_type] = {what: share[what] + more[what] for what in ("files", "bytes")}
        if sums[content_type]["files"] == 0:
            del sums[content_type]
    return sums
