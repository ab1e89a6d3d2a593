"""What the askers of a commit are told follows from its steps, in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.commit import (
    Accepted,
    Commit,
    Refusal,
    gave_up,
    id_reused,
    outcomes_of,
    provenance_of,
)
from omninode_bridge.core.message import Provenance, ReducerGaveUp, StateCommitted
from omninode_bridge.core.reducer import NEVER_SEEN, KeyType, Refused, fold
from tests.unit.actions import (
    CODEC,
    COMMITTED_AT,
    COUNTER,
    EFFECT_ID,
    KEY,
    LEASE,
    absorbed,
    sealed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.message import SealedAction

ACCEPTED = Accepted(state_committed_first=41, reducer_gave_up_first=7, intent_first=1)


def commit_of(
    actions: Sequence[SealedAction], key_type: KeyType = COUNTER, attempts: int = 1
) -> Commit:
    """Return the commit of a fold of `actions`."""
    _, steps = fold(NEVER_SEEN, actions, key_type, CODEC, COMMITTED_AT)
    return Commit(0, LEASE, {KEY: 0}, steps, COMMITTED_AT, EFFECT_ID, attempts=attempts)


@given(st.lists(st.booleans()))
def test_each_asker_is_told_what_became_of_its_action_and_commits_have_dense_offsets(
    good: list[bool],
) -> None:
    payloads = [{"amount": 1} if each else {} for each in good]
    actions = [sealed("Counted", payload, number) for number, payload in enumerate(payloads)]
    outcomes = outcomes_of(commit_of(actions, attempts=2), ACCEPTED)
    assert [outcome.action_id for outcome in outcomes] == [action.action_id for action in actions]
    assert [isinstance(outcome, StateCommitted) for outcome in outcomes] == good
    committed = [outcome for outcome in outcomes if isinstance(outcome, StateCommitted)]
    assert [each.commit_offset for each in committed] == list(range(41, 41 + len(committed)))
    assert [each.version for each in committed] == list(range(1, 1 + len(committed)))
    assert not any(outcome.duplicate for outcome in outcomes)


def test_a_commit_of_nothing_tells_nobody() -> None:
    assert outcomes_of(commit_of([]), ACCEPTED) == []


def test_provenance_says_which_action_made_a_version_in_which_commit() -> None:
    action = replace(
        sealed("Counted", {"amount": 1}), epoch=5, lease_id=LEASE, correlation_id=UUID(int=9)
    )
    commit = commit_of([action])
    step = absorbed(commit.steps[0])
    assert provenance_of(step, commit) == Provenance(
        effect_id=EFFECT_ID,
        timestamp=COMMITTED_AT,
        action_id=action.action_id,
        action_type="Counted",
        epoch=5,
        lease_id=LEASE,
        correlation_id=UUID(int=9),
        chain=step.snapshot.chain,
    )


def test_provenance_tells_the_epoch_that_a_fenced_key_is_at() -> None:
    actions = [
        replace(sealed("Counted", {"amount": 1}, 1), epoch=5, lease_id=LEASE),
        sealed("Counted", {"amount": 1}, 2),
    ]
    commit = commit_of(actions, replace(COUNTER, fenced=True))
    provenance = provenance_of(absorbed(commit.steps[1]), commit)
    assert (provenance.epoch, provenance.lease_id) == (5, LEASE)


def test_a_give_up_tells_reason_detail_version_and_attempts() -> None:
    action = sealed()
    step = Refused(action, "rejected", "too late", 4)
    expected = ReducerGaveUp(KEY, action.action_id, 3, "rejected", "too late", 4)
    assert gave_up(step, attempts=3) == expected


@pytest.mark.parametrize("version", [0, 7])
def test_a_reused_id_is_given_up_at_the_version_of_its_first_use(version: int) -> None:
    action = sealed()
    first = ReducerGaveUp(KEY, action.action_id, 1, "rejected", "no", version)
    again = id_reused(action, first)
    assert (again.reason, again.version, again.attempts) == ("id_reused", version, 0)
    assert (again.workflow_key, again.action_id) == (KEY, action.action_id)
    assert "used before" in again.detail


def test_a_refusal_without_reasons_refuses_nothing() -> None:
    refusal = Refusal()
    assert (refusal.not_owner, refusal.moved) == (False, False)
    assert (refusal.stale, refusal.known) == ({}, {})
