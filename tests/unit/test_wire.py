"""What is written is read back the same, and nothing is said that need not be."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.commit import Commit, gave_up, provenance_of
from omninode_bridge.core.message import (
    REMEMBER_S,
    Intent,
    ReducerGaveUp,
    SealedAction,
    StateCommitted,
)
from omninode_bridge.core.projection import Projection
from omninode_bridge.core.reducer import (
    NEVER_SEEN,
    KeyType,
    Refused,
    SealedProjection,
    Snapshot,
    Transition,
    fold,
)
from omninode_bridge.infrastructure import wire
from tests.unit.actions import (
    CODEC,
    COMMITTED_AT,
    COUNTER,
    EFFECT_ID,
    KEY,
    LEASE,
    absorbed,
    json_objects,
    sealed,
    storable_text,
)

if TYPE_CHECKING:
    from omninode_bridge.core.reducer import Absorbed

HASH = "0123456789abcdef" * 4

offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
maybe_id = st.none() | st.uuids()
actions = st.builds(
    SealedAction,
    action_id=st.uuids(),
    workflow_key=st.builds("{}:{}".format, storable_text, storable_text),
    type=storable_text,
    payload=json_objects.map(CODEC.encode),
    occurred_at=st.datetimes(timezones=offsets),
    epoch=st.none() | st.integers(0, 2**63 - 1),
    lease_id=maybe_id,
    correlation_id=maybe_id,
    causation_id=maybe_id,
    depth=st.integers(0, 32),
    reply_to=st.none() | storable_text,
    expected_version=st.none() | st.integers(0, 2**63 - 1),
    remember_s=st.none() | st.just(REMEMBER_S) | st.floats(0, 1e9),
    purpose=st.sampled_from(["apply", "cancel", "redrive"]),
    redrive_id=maybe_id,
)


def read(text: str) -> Any:  # noqa: ANN401 - JSON is what it is
    """Return what a body holds, as the stores read it."""
    return CODEC.decode(text.encode())


def step_and_commit(action: SealedAction, key_type: KeyType = COUNTER) -> tuple[Absorbed, Commit]:
    """Return the step of `action`, and the commit with it."""
    _, steps = fold(NEVER_SEEN, [action], key_type, CODEC, COMMITTED_AT)
    commit = Commit(0, None, {KEY: 0}, steps, COMMITTED_AT, EFFECT_ID, attempts=2)
    return absorbed(steps[0]), commit


COUNTED = sealed("Counted", {"amount": 1})
FULL = replace(
    COUNTED,
    epoch=1,
    lease_id=LEASE,
    correlation_id=UUID(int=3),
    causation_id=UUID(int=4),
    depth=5,
    reply_to="me",
    expected_version=0,
    remember_s=None,
)


# -- actions ---------------------------------------------------------------------------------------


@given(actions)
def test_an_action_comes_back_from_the_log(action: SealedAction) -> None:
    assert wire.read_action(read(wire.action_text(action)), CODEC) == action


@given(actions)
def test_a_log_that_the_database_wrote_anew_gives_back_the_same_action(
    action: SealedAction,
) -> None:
    """JSONB orders keys by length and writes numbers without exponents."""
    rewritten = json.dumps(json.loads(wire.action_text(action)), ensure_ascii=False, indent=1)
    assert wire.read_action(read(rewritten), CODEC) == action


def test_what_an_action_does_not_say_is_not_written() -> None:
    assert read(wire.action_text(COUNTED)) == {
        "action_id": str(COUNTED.action_id),
        "workflow_key": KEY,
        "type": "Counted",
        "payload": {"amount": 1},
        "occurred_at": "2011-10-01T00:38:44.546000+00:00",
    }


def test_all_that_an_action_says_is_written() -> None:
    assert read(wire.action_text(FULL)) == {
        **read(wire.action_text(COUNTED)),
        "epoch": 1,
        "lease_id": str(LEASE),
        "correlation_id": str(UUID(int=3)),
        "causation_id": str(UUID(int=4)),
        "depth": 5,
        "reply_to": "me",
        "expected_version": 0,
        "remember_s": None,
    }


def test_an_entry_of_history_leaves_out_the_askers_terms() -> None:
    step, commit = step_and_commit(FULL)
    written = read(wire.committed_text(step, commit))["action"]
    assert {"expected_version", "remember_s"}.isdisjoint(written)
    read_back = wire.read_action(written, CODEC)
    assert read_back == replace(FULL, expected_version=None, remember_s=REMEMBER_S)


def test_a_payload_is_spliced_in_as_the_bytes_it_is() -> None:
    action = replace(COUNTED, payload=b'{ "amount":1.50 }')
    assert '"payload":{ "amount":1.50 }' in wire.action_text(action)


# -- commits ---------------------------------------------------------------------------------------


def test_an_entry_of_history_holds_what_proves_it() -> None:
    step, commit = step_and_commit(COUNTED)
    assert read(wire.committed_text(step, commit)) == {
        "action": read(wire.action_text(COUNTED)),
        "reducer_version": 3,
        "result_hash": step.result_hash,
        "chain": step.snapshot.chain,
        "effect_id": str(EFFECT_ID),
        "projection": {"tag": "", "namespace": "counter", "indices": None, "extras": None},
    }


labels = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=100)


@given(labels, labels, st.none() | json_objects, st.none() | json_objects)
def test_a_projection_comes_back_from_its_entry(
    tag: str, namespace: str, indices: dict[str, Any] | None, extras: dict[str, Any] | None
) -> None:
    projection = Projection(tag, namespace, indices, extras)
    key_type = replace(COUNTER, project=lambda *_: projection)
    step, commit = step_and_commit(COUNTED, key_type)
    written = read(wire.committed_text(step, commit))["projection"]
    assert wire.read_projection(written, CODEC) == step.projection
    assert step.projection == SealedProjection(
        tag,
        namespace,
        None if indices is None else CODEC.encode(indices),
        None if extras is None else CODEC.encode(extras),
    )


@pytest.mark.parametrize("fenced", [False, True])
@pytest.mark.parametrize(
    "action",
    [COUNTED, FULL, replace(COUNTED, lease_id=LEASE), replace(COUNTED, epoch=1)],
    ids=["plain", "full", "a lease without an epoch", "an epoch without a lease"],
)
@pytest.mark.parametrize("start", [(None, None), (0, LEASE), (1, LEASE), (1, None)])
def test_the_provenance_of_a_commit_comes_back_from_its_entry(
    *, action: SealedAction, fenced: bool, start: tuple[int | None, UUID | None]
) -> None:
    key_type = replace(COUNTER, fenced=fenced)
    snapshot = Snapshot(0, b"{}", "", *start)
    _, (step,) = fold(snapshot, [action], key_type, CODEC, COMMITTED_AT)
    commit = Commit(0, None, {KEY: 0}, [step], COMMITTED_AT, EFFECT_ID)
    if isinstance(step, Refused):
        assert fenced, "only a fence refuses"
        return
    entry = read(wire.committed_text(step, commit))
    assert wire.read_provenance(entry, COMMITTED_AT) == provenance_of(step, commit)


def test_the_provenance_of_a_state_shows_all_its_fields() -> None:
    step, commit = step_and_commit(COUNTED)
    assert read(wire.provenance_text(step, commit)) == {
        "effect_id": str(EFFECT_ID),
        "timestamp": "2011-10-01T00:38:45+00:00",
        "action_id": str(COUNTED.action_id),
        "action_type": "Counted",
        "epoch": None,
        "lease_id": None,
        "correlation_id": None,
        "chain": step.snapshot.chain,
    }


# -- give-ups --------------------------------------------------------------------------------------

REFUSED = Refused(COUNTED, "rejected", "too late", 4)


def given_up(step: Refused) -> Any:  # noqa: ANN401 - JSON is what it is
    """Return the body of the entry of `step`."""
    commit = Commit(0, None, {KEY: 4}, [step], COMMITTED_AT, EFFECT_ID, attempts=2)
    return read(wire.gave_up_text(step, commit))


def test_an_entry_of_a_give_up_holds_outcome_and_action() -> None:
    assert given_up(REFUSED) == {
        "event": "ReducerGaveUp",
        "attempts": 2,
        "reason": "rejected",
        "detail": "too late",
        "version": 4,
        "action": read(wire.action_text(COUNTED)),
        "effect_id": str(EFFECT_ID),
    }


def test_a_payload_that_the_store_refused_is_not_offered_again() -> None:
    entry = given_up(replace(REFUSED, payload_kept=False))
    assert "payload" not in entry["action"]
    assert entry["action"]["type"] == "Counted"


# -- intents and replies ---------------------------------------------------------------------------


@given(json_objects)
def test_an_intent_carries_its_payload_and_what_a_follow_up_inherits(
    payload: dict[str, Any],
) -> None:
    key_type = replace(
        COUNTER, reduce=lambda _state, _action: Transition({}, (Intent("Mail", "", payload),))
    )
    step, _ = step_and_commit(FULL, key_type)
    assert read(wire.intent_text(step.intents[0], step)) == {
        "payload": read(CODEC.encode(payload).decode()),
        "depth": 5,
        "correlation_id": str(UUID(int=3)),
    }
    plain, _ = step_and_commit(COUNTED, key_type)
    assert "correlation_id" not in read(wire.intent_text(plain.intents[0], plain))


@pytest.mark.parametrize(
    "times",
    [
        {},
        {"due_in_ms": 0},
        {"due_in_ms": 86_400_000},
        {"due_at": datetime(2027, 1, 1, tzinfo=UTC), "reply_to": "order:1"},
    ],
)
def test_an_intent_is_read_back_with_its_times(times: dict[str, Any]) -> None:
    asked = Intent("Mail", "somebody", {"a": 1}, **times)
    key_type = replace(COUNTER, reduce=lambda _state, _action: Transition({}, (asked,)))
    step, _ = step_and_commit(COUNTED, key_type)
    (intent,) = step.intents
    body = read(wire.intent_text(intent, step))
    assert ("due_at" in body, "due_in_ms" in body) == ("due_at" in times, "due_in_ms" in times)
    assert wire.read_intent(intent.intent_id, "Mail", "somebody", body, CODEC) == intent


def test_a_reply_says_whose_outcome_it_is() -> None:
    fields = wire.reply_fields(KEY, COUNTED.action_id, wire.gave_up_fields(REFUSED, 2))
    assert fields == {
        "workflow_key": KEY,
        "action_id": str(COUNTED.action_id),
        "event": "ReducerGaveUp",
        "attempts": 2,
        "reason": "rejected",
        "detail": "too late",
        "version": 4,
    }
    CODEC.encode(fields)


# -- remembered outcomes ---------------------------------------------------------------------------


def test_a_remembered_commit_is_the_first_ones_outcome() -> None:
    step, commit = step_and_commit(COUNTED)
    entry = (read(wire.committed_text(step, commit)), COMMITTED_AT)
    outcome = {"event": "StateCommitted", "commit_offset": 41}
    remembered = wire.read_remembered(KEY, COUNTED.action_id, HASH, 1, outcome, entry)
    provenance = provenance_of(step, commit)
    assert remembered.request_hash == HASH
    assert remembered.outcome == StateCommitted(KEY, 1, COUNTED.action_id, 41, provenance)
    assert remembered.outcome.duplicate


def test_a_remembered_give_up_is_the_first_ones_outcome() -> None:
    outcome = read(json.dumps(wire.gave_up_fields(REFUSED, 2)))
    remembered = wire.read_remembered(KEY, COUNTED.action_id, HASH, 4, outcome, None)
    assert remembered.outcome == gave_up(REFUSED, 2)
    assert remembered.outcome.duplicate


@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        (3, {"event": "SomethingElse"}),
        (3, {"event": "StateCommitted", "commit_offset": 41}),
        (None, {"event": "SomethingElse"}),
    ],
)
def test_an_id_that_others_marked_as_processed_is_not_done_again(
    version: int | None, outcome: dict[str, Any]
) -> None:
    remembered = wire.read_remembered(KEY, COUNTED.action_id, HASH, version, outcome, None)
    again = remembered.outcome
    assert isinstance(again, ReducerGaveUp)
    assert (again.reason, again.version) == ("cancelled", version or 0)
    assert "outside of the reducer" in again.detail


def test_times_come_back_to_the_microsecond() -> None:
    at = datetime(2011, 10, 1, 0, 38, 44, 1, tzinfo=UTC)
    action = replace(COUNTED, occurred_at=at)
    assert wire.read_action(read(wire.action_text(action)), CODEC).occurred_at == at
