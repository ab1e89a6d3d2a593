"""What a worker would do in many lines, in one: make actions, fold them, commit them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from omninode_bridge.core.commit import Accepted, Commit, Move, Refusal, outcomes_of
from omninode_bridge.core.message import (
    FSM_STATE_TRANSITIONED,
    Intent,
    SealedAction,
    StateCommitted,
    key_type_of,
)
from omninode_bridge.core.projection import Projection
from omninode_bridge.core.reducer import NEVER_SEEN, KeyType, Snapshot, Step, Transition, fold
from tests.bridges import app
from tests.contract.ports import AT, CODEC, LEASE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omninode_bridge.core.message import Action, Outcome
    from omninode_bridge.ports import (
        CanonicalStore,
        LockedPartition,
    )
    from tests.contract.ports import Ports

KEYS: Final = [f"counter:{n}" for n in range(6)]


def _keep(_: dict[str, Any], action: Action) -> Transition:
    """Make the payload the state, and tell of it."""
    due_at = action.payload.get("due_at")
    at = None if due_at is None else datetime.fromisoformat(due_at)
    due_in_ms = action.payload.get("due_in_ms")
    told = [Intent("Kept", action.workflow_key, action.payload, due_at=at, due_in_ms=due_in_ms)]
    if "transition" in action.payload:
        told.append(Intent(FSM_STATE_TRANSITIONED, payload=action.payload["transition"]))
    if "cancels" in action.payload:
        key, action_type, payload, action_id = action.payload["cancels"]
        told.append(Intent.cancel(key, action_type, payload, action_id=UUID(action_id)))
    return Transition(action.payload, tuple(told))


def _show(_key: str, state: dict[str, Any], _type: str, _at: datetime) -> Projection:
    return Projection("kept", "documents", indices=state, extras=state)


KEY_TYPES: Final = app.key_types() | {
    "document": KeyType("document", 1, _keep, _show),
    "run": KeyType("run", 1, _keep, _show, fenced=True),
}
"""`counter:...` counts (tests/bridges.py), `document:...` is whatever the last action said, and so
is `run:...`, which is fenced."""


def action(
    key: str = "counter:1",
    action_type: str = "Counted",
    payload: dict[str, Any] | None = None,
    **terms: Any,  # noqa: ANN401 - the fields of a sealed action
) -> SealedAction:
    """Return an action; without a payload it counts 1."""
    body = CODEC.encode({"amount": 1} if payload is None else payload)
    action_id = terms.pop("action_id", None) or uuid4()
    return SealedAction(action_id, key, action_type, body, AT, **terms)


async def folded(
    store: CanonicalStore | LockedPartition,
    *actions: SealedAction,
    partition: int = 0,
    owner: UUID | None = None,
    position: Move | None = None,
) -> Commit:
    """Return the commit of `actions`, folded from what `store` holds now."""
    keys = list(dict.fromkeys(action.workflow_key for action in actions))
    stored = await store.read(keys)
    steps: list[Step] = []
    for key in keys:
        theirs = [action for action in actions if action.workflow_key == key]
        key_type = KEY_TYPES.get(key_type_of(key))
        steps += fold(stored.get(key, NEVER_SEEN), theirs, key_type, CODEC, AT)[1]
    reads = {key: stored.get(key, NEVER_SEEN).version for key in keys}
    return Commit(partition, owner, reads, steps, AT, uuid4(), position)


async def committed(
    ports: Ports,
    *actions: SealedAction,
    partition: int = 0,
    owner: UUID | None = None,
    position: Move | None = None,
) -> list[Outcome]:
    """Fold and commit `actions`; return their outcomes."""
    commit = await folded(
        ports.store, *actions, partition=partition, owner=owner, position=position
    )
    return outcomes_of(commit, accepted(await ports.store.commit(commit)))


def accepted(result: Accepted | Refusal) -> Accepted:
    """Return what was accepted."""
    assert isinstance(result, Accepted), result
    return result


def refused(result: Accepted | Refusal) -> Refusal:
    """Return the reasons for which nothing was written."""
    assert isinstance(result, Refusal), result
    return result


async def everything(ports: Ports, keys: Iterable[str], partition: int = 0) -> list[object]:
    """Return all that a commit to `partition` could have written, to compare before and after."""
    return [
        dict(await ports.store.read(keys)),
        await ports.projections.read(partition, 1, 1_000),
        await ports.intents.read(partition, 1, 1_000),
        await ports.beside.gave_up(partition),
        await ports.actions.position(partition),
    ]


async def snapshot(ports: Ports, key: str) -> Snapshot:
    """Return the stored snapshot of `key`."""
    return (await ports.store.read([key]))[key]


def versions(outcomes: Iterable[Outcome]) -> list[int]:
    """Return the versions that `outcomes` made."""
    return [outcome.version for outcome in outcomes if isinstance(outcome, StateCommitted)]


async def owned(ports: Ports) -> UUID:
    """Return the token of an owner of partition 0."""
    owner = uuid4()
    assert list(await ports.leases.acquire(owner, "a test", LEASE, [0])) == [0]
    return owner


async def refused_whole(ports: Ports, commit: Commit) -> Refusal:
    """Return the reasons for refusing `commit`, of which nothing was written."""
    before = await everything(ports, KEYS)
    reasons = refused(await ports.store.commit(commit))
    assert await everything(ports, KEYS) == before
    async with ports.store.locked(0) as locked:
        again = refused(await locked.commit(commit))
    assert again == reasons
    assert await everything(ports, KEYS) == before
    return reasons
