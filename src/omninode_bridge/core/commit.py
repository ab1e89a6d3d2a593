"""What a commit asks of a store, and the two things it can hear back.

A commit is the result of folding a batch of one partition's actions. It becomes durable whole or
not at all (R2), at the end of the one history its partition has (R5).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from omninode_bridge.core.errors import OwnershipLost
from omninode_bridge.core.message import (
    Outcome,
    Provenance,
    ReducerGaveUp,
    StateCommitted,
    content_hash,
)
from omninode_bridge.core.reducer import Absorbed, Refused, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from omninode_bridge.core.message import SealedAction

ActionName = tuple[str, "UUID"]
"""What an outcome is remembered by: workflow key and action id."""


@dataclass(frozen=True, slots=True)
class Move:
    """A position that moves with the commit, from `expected` to `next`."""

    expected: int
    next: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One batch of one partition.

    `reads` holds the version of every key that was read, those with only give-ups and those never
    seen (0) included. `steps` are in the order in which they will stand in the log. `owner` is the
    token of the partition's lease; None commits beside the owner, serialised by the same lock.
    `position` moves the partition's position in its action log. `attempts` is how many times the
    batch has been folded.
    """

    partition: int
    owner: UUID | None
    reads: Mapping[str, int]
    steps: Sequence[Step]
    committed_at: datetime
    effect_id: UUID
    position: Move | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Accepted:
    """The commit is durable. Each is the offset that the batch's first entry of a topic got."""

    state_committed_first: int
    reducer_gave_up_first: int
    intent_first: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """An outcome that an earlier submission of an id had, and the hash of what that one asked."""

    request_hash: str
    outcome: Outcome


def settles(remembered: Remembered, action: SealedAction) -> bool:
    """Return whether a remembered outcome is the answer to `action`.

    It is, but for an action that is redriven: what it was given up for is what it is to replace.
    """
    return action.purpose != "redrive" or isinstance(remembered.outcome, StateCommitted)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was written, for all of these reasons together.

    `not_owner`: another process holds the partition. `moved`: its position is not as expected.
    `stale`: keys whose stored version is another than the one read, with the stored one.
    `known`: actions whose outcome is remembered already.
    """

    not_owner: bool = False
    moved: bool = False
    stale: Mapping[str, int] = field(default_factory=dict)
    known: Mapping[ActionName, Remembered] = field(default_factory=dict)


def provenance_of(step: Absorbed, commit: Commit) -> Provenance:
    """Return the provenance of the version that `step` made."""
    action, snapshot = step.action, step.snapshot
    return Provenance(
        commit.effect_id,
        commit.committed_at,
        action.action_id,
        action.type,
        snapshot.epoch,
        snapshot.lease_id,
        action.correlation_id,
        snapshot.chain,
    )


def outcomes_of(commit: Commit, accepted: Accepted) -> list[Outcome]:
    """Return what the asker of each step is told, in the order of the steps."""
    outcomes: list[Outcome] = []
    offset = accepted.state_committed_first
    for step in commit.steps:
        action = step.action
        if isinstance(step, Absorbed):
            outcomes.append(
                StateCommitted(
                    action.workflow_key,
                    step.snapshot.version,
                    action.action_id,
                    offset,
                    provenance_of(step, commit),
                )
            )
            offset += 1
        else:
            outcomes.append(gave_up(step, commit.attempts))
    return outcomes


def gave_up(step: Refused, attempts: int) -> ReducerGaveUp:
    """Return the outcome of an action that was given up."""
    action = step.action
    return ReducerGaveUp(
        action.workflow_key, action.action_id, attempts, step.reason, step.detail, step.version
    )


def id_reused(action: SealedAction, first: Outcome) -> ReducerGaveUp:
    """Return the answer to an action whose id already belongs to another one on the same key."""
    detail = "this action id was used before on this key, with another type or payload"
    return ReducerGaveUp(
        action.workflow_key, action.action_id, 0, "id_reused", detail, first.version
    )


def told_again(action: SealedAction, first: Outcome, request_hash: str) -> Outcome:
    """Return the answer to an action whose id has an outcome, `first`, already (R3).

    `request_hash` is the hash of what was asked then: who asks the same is told the first outcome,
    and another content is `id_reused`.
    """
    if content_hash(action.type, action.payload) == request_hash:
        return replace(first, duplicate=True)
    return id_reused(action, first)


def ownership_lost(partition: int, refusal: Refusal) -> OwnershipLost:
    """Return the error that ends a worker whose commit was refused as no longer the owner's."""
    what = "is owned by another process" if refusal.not_owner else "has moved without us"
    return OwnershipLost(partition, what)
