"""Compare and set for one key, over any canonical store: one action `StateReplaced`, one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.commit import Accepted, Commit, outcomes_of
from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import (
    STATE_REPLACED,
    ReducerGaveUp,
    SealedAction,
    StateCommitted,
    StateConflict,
    check_workflow_key,
    content_hash,
    key_type_of,
)
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import NEVER_SEEN, Absorbed, KeyType, fold
from omninode_bridge.core.terms import check_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from omninode_bridge.core.message import GiveUpReason, Outcome, Provenance
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.ports import CanonicalStore, Clock

_FENCED_OFF: Final[tuple[GiveUpReason, ...]] = ("stale_epoch", "lease_mismatch")
"""An answer to who asks, as it would be from a worker: it is committed and remembered."""


async def replace_state(
    store: CanonicalStore,
    workflow_key: str,
    expected_version: int,
    state_prime: Mapping[str, Any],
    provenance: Provenance | None,
    *,
    key_types: Mapping[str, KeyType],
    partitions: int,
    codec: Codec,
    clock: Clock,
    new_id: Callable[[], UUID],
) -> StateCommitted | StateConflict | ReducerGaveUp:
    """Do what `StateReplacing.try_commit` promises, under the lock of the key's partition.

    Raises:
        ValueError: `state_prime` is not JSON, its projection fails, or the key's type has none.
        InvalidAction: a malformed `workflow_key`, an `epoch` that is none, or the id in
            `provenance` is somebody else's.
    """
    check_workflow_key(workflow_key)
    if provenance is not None and provenance.epoch is not None:
        check_count("epoch", provenance.epoch)
    partition = partition_of(workflow_key, partitions)
    committed_at = clock()
    action = SealedAction(
        action_id=provenance.action_id if provenance else new_id(),
        workflow_key=workflow_key,
        type=STATE_REPLACED,
        payload=codec.encode(dict(state_prime)),
        occurred_at=provenance.timestamp if provenance else committed_at,
        epoch=provenance.epoch if provenance else None,
        lease_id=provenance.lease_id if provenance else None,
        correlation_id=provenance.correlation_id if provenance else None,
        expected_version=expected_version,
    )
    async with store.locked(partition) as locked:
        name = (workflow_key, action.action_id)
        known = (await locked.recall([name])).get(name)
        if known is not None:
            same = content_hash(action.type, action.payload) == known.request_hash
            if same and _may_be_ours(known.outcome):
                return known.outcome
            raise InvalidAction("action_id", f"{action.action_id} was used for something else")
        snapshot = (await locked.read([workflow_key])).get(workflow_key, NEVER_SEEN)
        if snapshot.version != expected_version:
            return StateConflict(workflow_key, expected_version, snapshot.version, action.action_id)
        key_type = key_types.get(key_type_of(workflow_key))
        effect_id = provenance.effect_id if provenance else new_id()
        _, steps = fold(snapshot, [action], key_type, codec, committed_at)
        step = steps[0]
        if not isinstance(step, Absorbed) and step.reason not in _FENCED_OFF:
            message = f"{workflow_key}: the state cannot be committed: {step.detail}"
            raise ValueError(message)
        reads = {workflow_key: snapshot.version}
        commit = Commit(partition, None, reads, steps, committed_at, effect_id)
        accepted = await locked.commit(commit)
        assert isinstance(accepted, Accepted), accepted
        return outcomes_of(commit, accepted)[0]


def _may_be_ours(outcome: Outcome) -> bool:
    return isinstance(outcome, StateCommitted) or outcome.reason in _FENCED_OFF
