"""The commit in memory: the same checks in the same order as the commit function of migration 009.

Rule 1: all checks come before the first change, so a refusal has changed nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from omninode_bridge.core.commit import (
    Accepted,
    Commit,
    Refusal,
    Remembered,
    outcomes_of,
    settles,
)
from omninode_bridge.core.effects import LoggedIntent
from omninode_bridge.core.errors import DatabaseRefused
from omninode_bridge.core.message import (
    FSM_STATE_TRANSITIONED,
    ReducerGaveUp,
    StateCommitted,
    content_hash,
)
from omninode_bridge.core.reducer import NEVER_SEEN, Absorbed, seal_reply
from omninode_bridge.infrastructure import wire
from omninode_bridge.ports import LoggedEvent, LoggedProjection, LoggedTransition
from omninode_bridge.testing.tables import FOR_EVER, OutcomeRow
from omninode_bridge.testing.values import check_commit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from omninode_bridge.core.commit import ActionName
    from omninode_bridge.core.message import Outcome
    from omninode_bridge.core.reducer import Codec, SealedIntent, Step
    from omninode_bridge.testing.tables import Changes, Tables


def commit_in(
    tables: Tables, changes: Changes, commit: Commit, codec: Codec, now: datetime, lease: timedelta
) -> Accepted | Refusal:
    """Add what `commit` asks for to `changes`, or say all reasons why not.

    Raises:
        ValueRefused: PostgreSQL could not hold a value of it; nothing was added.
    """
    refusal = _refusal(tables, changes, commit)
    if refusal is not None:
        return refusal
    check_commit(commit)
    _check_unique(tables, changes, commit)
    partition = tables.partition(commit.partition)
    accepted = Accepted(
        len(partition.committed) + len(changes.committed) + 1,
        len(partition.gave_up) + len(changes.gave_up) + 1,
        partition.intents.head + len(changes.intents),
    )
    for step, outcome in zip(commit.steps, outcomes_of(commit, accepted), strict=True):
        _remember(changes, step, outcome, now)
        if isinstance(step, Absorbed):
            assert isinstance(outcome, StateCommitted)
            changes.states[step.action.workflow_key] = step.snapshot
            changes.committed.append(_logged(step, outcome))
            committed_body = wire.committed_text(step, commit)
            event = _event(outcome.commit_offset, step, outcome.version, commit, committed_body)
            changes.events.append(("state-committed", event))
        else:
            assert isinstance(outcome, ReducerGaveUp)
            changes.gave_up.append(outcome)
            offset = len(partition.gave_up) + len(changes.gave_up)
            event = _event(offset, step, outcome.version, commit, wire.gave_up_text(step, commit))
            changes.events.append(("reducer-gave-up", event))
        for intent in _intents_of(step, commit, codec):
            if intent.intent_type == FSM_STATE_TRANSITIONED:
                assert isinstance(step, Absorbed)
                first = len(partition.transitions) + 1
                offset = first + len(changes.transitions)
                changes.transitions.append(_transition(offset, intent, step, commit))
                told = _event(offset, step, None, commit, wire.transition_text(intent, step))
                changes.events.append(("fsm-state-transitioned", told))
                continue
            offset = partition.intents.head + len(changes.intents)
            action = step.action
            inherited = (action.action_id, action.correlation_id, action.depth)
            changes.intents.append(
                LoggedIntent(offset, intent, *inherited, now, action.workflow_key)
            )
    if commit.position is not None:
        changes.position = commit.position.next
    if commit.owner is not None:
        changes.lease_until = now + lease
    return accepted


def _refusal(tables: Tables, changes: Changes, commit: Commit) -> Refusal | None:
    lease = tables.partition(commit.partition).lease
    # The token decides, not the time: a lease that is over, and that nobody took, still counts.
    if commit.owner is not None and (lease is None or lease.owner != commit.owner):
        return Refusal(not_owner=True)
    position = changes.position or tables.worker_position(commit.partition)
    states, outcomes = tables.seen_states(changes), tables.seen_outcomes(changes)
    actual = {key: states.get(key, NEVER_SEEN).version for key in commit.reads}
    names = [(step.action.workflow_key, step.action.action_id) for step in commit.steps]
    refusal = Refusal(
        moved=commit.position is not None and commit.position.expected != position,
        stale={key: actual[key] for key, read in commit.reads.items() if actual[key] != read},
        known={
            name: outcomes[name].remembered
            for name, step in zip(names, commit.steps, strict=True)
            if name in outcomes and settles(outcomes[name].remembered, step.action)
        },
    )
    return None if refusal == Refusal() else refusal


def _check_unique(tables: Tables, changes: Changes, commit: Commit) -> None:
    """Refuse what the unique indexes would: a version, or an outcome, that is there already."""
    states = tables.seen_states(changes)
    versions: dict[str, int] = {}
    names: set[ActionName] = set()
    for step in commit.steps:
        key = step.action.workflow_key
        name = (key, step.action.action_id)
        if name in names:
            raise DatabaseRefused("23505", f"two outcomes of {name} in one commit")
        names.add(name)
        if isinstance(step, Absorbed):
            version, stored = step.snapshot.version, states.get(key, NEVER_SEEN).version
            if version <= versions.get(key, stored):
                raise DatabaseRefused("23505", f"{key} has version {version} already")
            versions[key] = version


def _remember(changes: Changes, step: Step, outcome: Outcome, now: datetime) -> None:
    action = step.action
    lifetime_s = FOR_EVER if action.remember_s is None else action.remember_s
    request_hash = content_hash(action.type, action.payload)
    remembered = Remembered(request_hash, replace(outcome, duplicate=True))
    name = (action.workflow_key, action.action_id)
    changes.outcomes[name] = OutcomeRow(remembered, now.timestamp() + lifetime_s)


def _logged(step: Absorbed, outcome: StateCommitted) -> LoggedProjection:
    return LoggedProjection(
        outcome.commit_offset,
        outcome.workflow_key,
        outcome.version,
        step.action.type,
        outcome.provenance.timestamp,
        step.projection,
    )


def _event(offset: int, step: Step, version: int | None, commit: Commit, body: str) -> LoggedEvent:
    action = step.action
    return LoggedEvent(
        offset,
        action.workflow_key,
        action.action_id,
        version,
        commit.committed_at,
        body.encode(),
    )


def _transition(
    offset: int, intent: SealedIntent, step: Absorbed, commit: Commit
) -> LoggedTransition:
    action = step.action
    return LoggedTransition(
        offset,
        action.workflow_key,
        step.snapshot.version,
        action.action_id,
        action.correlation_id,
        commit.committed_at,
        intent.payload,
    )


def _intents_of(step: Step, commit: Commit, codec: Codec) -> Iterator[SealedIntent]:
    """Yield the intents of a step, and last the answer to its `reply_to`."""
    if isinstance(step, Absorbed):
        yield from step.intents
        outcome = {"event": "StateCommitted", "version": step.snapshot.version}
    else:
        outcome = wire.gave_up_fields(step, commit.attempts)
    action = step.action
    if action.reply_to is not None:
        fields = wire.reply_fields(action.workflow_key, action.action_id, outcome)
        yield seal_reply(action, fields, codec)
