"""The fold applies actions in order, gives up what it cannot apply alone, and is pure (R1)."""

from __future__ import annotations

import hashlib
from asyncio import CancelledError
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import (
    ACTION_ANSWERED,
    DEPTH_MAX,
    PAYLOAD_BYTES_MAX,
    STATE_REPLACED,
    Action,
    Intent,
    SealedAction,
)
from omninode_bridge.core.projection import Projection
from omninode_bridge.core.reducer import (
    DETAIL_CHARS_MAX,
    INTENT_BYTES_MAX,
    INTENTS_MAX,
    NEVER_SEEN,
    STATE_BYTES_MAX,
    Absorbed,
    KeyType,
    Refused,
    Rejection,
    SealedProjection,
    Snapshot,
    Step,
    Transition,
    check_action_type,
    fold,
    seal_reply,
)
from tests.unit.actions import (
    CODEC,
    COMMITTED_AT,
    COUNTER,
    KEY,
    LEASE,
    absorbed,
    json_objects,
    refused,
    sealed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OTHER_LEASE = UUID(int=2**102)


def folded(
    actions: Sequence[SealedAction],
    key_type: KeyType | None = COUNTER,
    start: Snapshot = NEVER_SEEN,
) -> tuple[Snapshot, list[Step]]:
    """Fold `actions` from `start`."""
    return fold(start, actions, key_type, CODEC, COMMITTED_AT)


def answer(result: object, action: SealedAction | None = None) -> Step:
    """Return the step of an action to which a reducer gives `result`."""
    key_type = KeyType("counter", 1, lambda _state, _action: result)  # type: ignore[arg-type, return-value]
    _, (step,) = folded([action or sealed()], key_type)
    return step


def with_intents(*intents: object, depth: int = 0) -> Step:
    """Return the step of an action whose transition has `intents`."""
    transition = Transition({}, intents)  # type: ignore[arg-type]
    return answer(transition, replace(sealed(), depth=depth))


def projected(project: Callable[..., object]) -> Step:
    """Return the step of an action of a key type with this projection."""
    key_type = replace(COUNTER, project=project)  # type: ignore[arg-type]
    _, (step,) = folded([sealed("Counted", {"amount": 1})], key_type)
    return step


# -- what a fold is --------------------------------------------------------------------------------


def wayward(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Do what the action's type asks for, and spoil whatever it was given."""
    seen = state.get("seen", [])
    payload = dict(action.payload)
    state["seen"] = action.payload["spoilt"] = "spoilt"
    match action.type:
        case "Rejected":
            return Rejection("no")
        case "Raised":
            raise RuntimeError(action.type)
        case "NotJson":
            return Transition({"it": {1, 2}})
        case _:
            following = {"seen": [*seen, payload]}
            return Transition(following, (Intent("Told", "", {"count": len(seen)}),))


WAYWARD = KeyType("counter", 1, wayward)

histories = st.lists(
    st.tuples(
        st.sampled_from(["Seen", "Seen", "Rejected", "Raised", "NotJson", STATE_REPLACED]),
        json_objects,
        st.none() | st.integers(0, 4),
    ),
    max_size=8,
).map(
    lambda asked: [
        replace(sealed(kind, payload, number), expected_version=expected)
        for number, (kind, payload, expected) in enumerate(asked)
    ]
)


@given(histories, st.data())
def test_batches_of_any_size_lead_to_the_same_state_chain_and_steps(
    actions: list[SealedAction], data: st.DataObject
) -> None:
    at_once = folded(actions, WAYWARD)
    snapshot, steps = NEVER_SEEN, []
    rest = actions
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        snapshot, made = folded(rest[:size], WAYWARD, snapshot)
        steps += made
        rest = rest[size:]
    assert (snapshot, steps) == at_once


@given(histories)
def test_what_is_given_up_leaves_no_trace_in_what_follows(actions: list[SealedAction]) -> None:
    snapshot, steps = folded(actions, WAYWARD)
    good = [step for step in steps if isinstance(step, Absorbed)]
    again, clean = folded([step.action for step in good], WAYWARD)
    assert again == snapshot
    assert clean == good
    assert [step.snapshot.version for step in good] == list(range(1, len(good) + 1))


@given(histories)
def test_every_action_has_one_step_in_the_order_of_the_actions(actions: list[SealedAction]) -> None:
    _, steps = folded(actions, WAYWARD)
    assert [step.action for step in steps] == actions


@given(histories)
def test_a_refusal_tells_the_version_it_saw(actions: list[SealedAction]) -> None:
    version = 0
    for step in folded(actions, WAYWARD)[1]:
        match step:
            case Absorbed():
                version = step.snapshot.version
            case Refused():
                assert step.version == version


@given(histories)
def test_the_chain_can_be_computed_by_anyone_with_the_log(actions: list[SealedAction]) -> None:
    chain = ""
    for step in folded(actions, WAYWARD)[1]:
        if isinstance(step, Absorbed):
            state_hash = hashlib.sha256(step.snapshot.state).hexdigest()
            assert step.result_hash == state_hash
            link = hashlib.sha256(chain.encode() + b"\0" + step.action.action_id.bytes + b"\0")
            link.update(step.action.type.encode() + b"\0")
            link.update(str(step.reducer_version).encode() + b"\0")
            link.update(state_hash.encode() + b"\0" + step.action.payload)
            chain = link.hexdigest()
            assert step.snapshot.chain == chain


def test_a_fold_of_nothing_changes_nothing() -> None:
    assert folded([]) == (NEVER_SEEN, [])


def test_actions_are_applied_in_order_from_version_1_on() -> None:
    actions = [sealed("Counted", {"amount": n}, n) for n in (1, 2, 3)]
    snapshot, steps = folded(actions)
    assert snapshot.state == b'{"count":3,"total":6}'
    assert [absorbed(step).snapshot.version for step in steps] == [1, 2, 3]
    assert [absorbed(step).reducer_version for step in steps] == [3, 3, 3]


def test_a_key_never_seen_is_an_empty_object_without_history() -> None:
    expected = (0, b"{}", "", None, None)
    start = NEVER_SEEN
    assert (start.version, start.state, start.chain, start.epoch, start.lease_id) == expected


def test_an_object_that_a_reducer_keeps_changes_nothing_later() -> None:
    kept: list[dict[str, Any]] = []

    def hoarding(state: dict[str, Any], action: Action) -> Transition:
        for each in kept:
            each["count"] = 1_000_000
        following = {"count": state.get("count", 0) + action.payload["amount"]}
        kept.extend((state, action.payload, following))
        return Transition(following)

    actions = [sealed("Counted", {"amount": 1}, number) for number in range(3)]
    snapshot, _ = folded(actions, KeyType("counter", 1, hoarding))
    assert snapshot.state == b'{"count":3}'


# -- what is given up ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, "the reducer of 'counter' returned NoneType; return a Transition or a Rejection"),
        ({"count": 1}, "returned dict"),
        (Transition, "returned type"),
        (Transition([1, 2]), "a state must be a dict (a JSON object), not list"),  # type: ignore[arg-type]
        (Transition(None), "not NoneType"),  # type: ignore[arg-type]
        (Transition("{}"), "not str"),  # type: ignore[arg-type]
        (Transition(MappingProxyType({})), "not mappingproxy"),
        (Transition({"it": object()}), "not JSON serializable: object"),
        (Transition({"it": {1}}), "not JSON serializable: set"),
        (Transition({1: "it"}), "key must be str"),  # type: ignore[dict-item]
        (Transition({"it": float("nan")}), "nan is not a JSON number"),
        (Transition({"it": [float("inf")]}), "inf is not a JSON number"),
        (Transition({"it": 2**64}), "64-bit"),
        (Transition({"it": "a\0b"}), "NUL"),
        (Transition({"it": "\ud800"}), "surrogates"),
        (Transition({}, None), "'NoneType' object is not iterable"),  # type: ignore[arg-type]
        (
            Transition({"it": "x" * STATE_BYTES_MAX}),
            f"{STATE_BYTES_MAX + 9} bytes; {STATE_BYTES_MAX}",
        ),
    ],
)
def test_what_a_reducer_must_not_return_is_given_up_by_name(result: object, says: str) -> None:
    step = refused(answer(result))
    assert step.reason == "reducer_error"
    assert step.payload_kept
    assert says in step.detail


def test_a_state_of_the_largest_size_is_absorbed() -> None:
    step = absorbed(answer(Transition({"it": "x" * (STATE_BYTES_MAX - 9)})))
    assert len(step.snapshot.state) == STATE_BYTES_MAX


def test_a_reducer_that_raises_gives_up_that_action_with_its_traceback() -> None:
    actions = [
        sealed("Counted", {"amount": 1}, 1),
        sealed("Counted", {"another": 1}, 2),
        sealed("Counted", {"amount": 3}, 3),
    ]
    snapshot, (first, bad, last) = folded(actions)
    assert snapshot.state == b'{"count":2,"total":4}'
    assert (absorbed(first).snapshot.version, absorbed(last).snapshot.version) == (1, 2)
    step = refused(bad)
    assert (step.reason, step.version) == ("reducer_error", 1)
    assert step.detail.startswith("Traceback")
    assert "in counted" in step.detail
    assert step.detail.endswith("KeyError: 'amount'\n")


def test_a_reducer_without_an_end_is_cut_off_by_python_and_given_up() -> None:
    def endless(state: dict[str, Any], action: Action) -> Transition:
        return endless(state, action)

    _, (step,) = folded([sealed()], KeyType("counter", 1, endless))
    assert "RecursionError" in refused(step).detail


@pytest.mark.parametrize("error", [SystemExit(3), CancelledError(), GeneratorExit()])
def test_a_reducer_ends_nothing_but_its_own_action(error: BaseException) -> None:
    def leaving(*_told: object) -> Transition:
        raise error

    _, (step,) = folded([sealed()], KeyType("counter", 1, leaving))
    assert refused(step).reason == "reducer_error"
    assert type(error).__name__ in refused(step).detail
    assert type(error).__name__ in refused(projected(leaving)).detail


def test_a_person_may_interrupt_a_fold() -> None:
    def interrupted(_state: dict[str, Any], _action: Action) -> Transition:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folded([sealed()], KeyType("counter", 1, interrupted))


def test_an_error_that_cannot_be_put_into_words_is_given_up_too() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def silent(_state: dict[str, Any], _action: Action) -> Transition:
        raise Mute

    _, (step,) = folded([sealed()], KeyType("counter", 1, silent))
    assert "Mute" in refused(step).detail


def test_a_rejection_is_told_its_reason() -> None:
    step = refused(answer(Rejection("too late")))
    assert (step.reason, step.detail, step.version) == ("rejected", "too late", 0)


@pytest.mark.parametrize("reason", [None, 7, ["a", "list"]])
def test_the_reason_of_a_rejection_is_told_as_text(reason: object) -> None:
    step = refused(answer(Rejection(reason)))  # type: ignore[arg-type]
    assert step.detail == str(reason)


@given(st.text() | st.integers(DETAIL_CHARS_MAX - 2, DETAIL_CHARS_MAX + 2).map(lambda n: "\0" * n))
def test_every_detail_is_bounded_and_can_be_stored(words: str) -> None:
    def raising(_state: dict[str, Any], _action: Action) -> Transition:
        raise RuntimeError(words)

    _, (error,) = folded([sealed()], KeyType("counter", 1, raising))
    for step in (refused(error), refused(answer(Rejection(words)))):
        assert len(step.detail) <= DETAIL_CHARS_MAX
        assert "\0" not in step.detail
        step.detail.encode()


def test_a_long_reason_keeps_its_beginning_and_a_long_traceback_its_end() -> None:
    def raising(_state: dict[str, Any], _action: Action) -> Transition:
        raise RuntimeError("x" * 10_000 + "the end")

    _, (step,) = folded([sealed()], KeyType("counter", 1, raising))
    assert refused(step).detail.endswith("the end\n")
    assert refused(answer(Rejection("the beginning" + "x" * 10_000))).detail.startswith("the begin")


def test_what_no_column_takes_is_written_out() -> None:
    assert refused(answer(Rejection("a\0b\ud800c"))).detail == r"a\0b\ud800c"


def test_a_key_of_a_type_nobody_declared_is_invalid() -> None:
    _, (step,) = folded([sealed()], None)
    assert refused(step).reason == "invalid"
    assert refused(step).detail == "no reducer is registered for keys counter:..."


@pytest.mark.parametrize("payload", [b"[]", b"null", b'"{"', b"1", b""])
def test_a_payload_that_is_no_object_is_invalid(payload: bytes) -> None:
    _, (step,) = folded([replace(sealed(), payload=payload)])
    assert (refused(step).reason, refused(step).detail) == (
        "invalid",
        f"the payload is not a JSON object: {payload.decode()}",
    )


def test_a_payload_that_is_no_json_gives_up_that_action() -> None:
    _, (step,) = folded([replace(sealed(), payload=b"{")])
    assert refused(step).reason == "reducer_error"


# -- demands: versions and epochs ------------------------------------------------------------------


def test_an_expected_version_is_demanded_of_the_key_not_of_the_batch() -> None:
    first = replace(sealed("Counted", {"amount": 1}, 1), expected_version=0)
    late = replace(sealed("Counted", {"amount": 2}, 2), expected_version=0)
    second = replace(sealed("Counted", {"amount": 3}, 3), expected_version=1)
    early = replace(sealed("Counted", {"amount": 4}, 4), expected_version=9)
    snapshot, steps = folded([first, late, second, early])
    assert snapshot.state == b'{"count":2,"total":4}'
    assert [refused(steps[n]).reason for n in (1, 3)] == ["conflict", "conflict"]
    assert refused(steps[1]).detail == "version 0 was expected, the key is at 1"
    assert (refused(steps[1]).version, refused(steps[3]).version) == (1, 2)


FENCED = replace(COUNTER, fenced=True)


def fenced(
    start: tuple[int | None, UUID | None],
    asked: tuple[int | None, UUID | None],
    key_type: KeyType = FENCED,
) -> Step:
    """Return the step of an action with the epoch and lease `asked` on a key at `start`."""
    snapshot = Snapshot(1, b"{}", "", *start)
    action = replace(sealed("Counted", {"amount": 1}), epoch=asked[0], lease_id=asked[1])
    _, (step,) = folded([action], key_type, snapshot)
    return step


@pytest.mark.parametrize(
    ("start", "asked", "following"),
    [
        ((None, None), (None, None), (None, None)),
        ((None, None), (1, LEASE), (1, LEASE)),
        ((3, LEASE), (3, LEASE), (3, LEASE)),
        ((3, LEASE), (4, OTHER_LEASE), (4, OTHER_LEASE)),
        ((3, LEASE), (4, None), (4, None)),
        ((3, None), (3, None), (3, None)),
        ((3, LEASE), (None, None), (3, LEASE)),
        ((3, LEASE), (None, OTHER_LEASE), (3, LEASE)),
    ],
)
def test_a_fenced_key_keeps_its_highest_epoch_and_its_lease(
    start: tuple[int | None, UUID | None],
    asked: tuple[int | None, UUID | None],
    following: tuple[int | None, UUID | None],
) -> None:
    snapshot = absorbed(fenced(start, asked)).snapshot
    assert (snapshot.epoch, snapshot.lease_id) == following


@pytest.mark.parametrize(
    ("asked", "reason", "says"),
    [
        ((2, LEASE), "stale_epoch", "epoch 2 is past: the key is at epoch 3"),
        ((2, OTHER_LEASE), "stale_epoch", "epoch 2 is past"),
        ((-1, None), "stale_epoch", "epoch -1 is past"),
        ((3, OTHER_LEASE), "lease_mismatch", "epoch 3 belongs to another lease"),
        ((3, None), "lease_mismatch", "epoch 3 belongs to another lease"),
    ],
)
def test_a_fenced_key_refuses_who_has_been_followed(
    asked: tuple[int | None, UUID | None], reason: str, says: str
) -> None:
    step = refused(fenced((3, LEASE), asked))
    assert (step.reason, step.version) == (reason, 1)
    assert says in step.detail


def test_only_a_commit_moves_the_fence() -> None:
    rejecting = replace(FENCED, reduce=lambda _state, _action: Rejection("no"))
    higher = replace(sealed(number=1), epoch=9, lease_id=OTHER_LEASE)
    snapshot, _ = folded([higher], rejecting, Snapshot(1, b"{}", "", 3, LEASE))
    assert (snapshot.epoch, snapshot.lease_id) == (3, LEASE)


@given(st.lists(st.tuples(st.none() | st.integers(0, 5), st.sampled_from([LEASE, OTHER_LEASE]))))
def test_the_epoch_of_a_fenced_key_never_falls(asked: list[tuple[int | None, UUID]]) -> None:
    actions = [
        replace(sealed("Counted", {"amount": 1}, n), epoch=epoch, lease_id=lease)
        for n, (epoch, lease) in enumerate(asked)
    ]
    epochs = [
        step.snapshot.epoch
        for step in folded(actions, FENCED)[1]
        if isinstance(step, Absorbed) and step.snapshot.epoch is not None
    ]
    assert epochs == sorted(epochs)


@pytest.mark.parametrize("asked", [(2, LEASE), (3, OTHER_LEASE), (None, None)])
def test_on_other_keys_epoch_and_lease_are_provenance_only(
    asked: tuple[int | None, UUID | None],
) -> None:
    snapshot = absorbed(fenced((3, LEASE), asked, COUNTER)).snapshot
    assert (snapshot.epoch, snapshot.lease_id) == asked


# -- a state from outside --------------------------------------------------------------------------


def test_a_replaced_state_is_the_payload_and_asks_no_reducer() -> None:
    start, _ = folded([sealed("Counted", {"amount": 1}, 1)])
    _, (step,) = folded([sealed(STATE_REPLACED, {"total": 7}, 2)], start=start)
    replaced = absorbed(step)
    assert replaced.snapshot.state == b'{"total":7}'
    assert (replaced.snapshot.version, replaced.reducer_version) == (2, 0)
    assert replaced.intents == ()


def test_nobody_but_the_bridge_replaces_a_state() -> None:
    with pytest.raises(InvalidAction, match=f"{STATE_REPLACED} is the bridge's own"):
        check_action_type(STATE_REPLACED)
    assert check_action_type("Counted") == "Counted"
    with pytest.raises(InvalidAction, match="invalid type: has 0 bytes"):
        check_action_type("")


# -- intents ---------------------------------------------------------------------------------------


def test_the_ids_of_intents_are_made_of_the_actions_id_and_their_place() -> None:
    step = absorbed(with_intents(Intent("Mail", "a@example.org", {"b": 1, "a": 2}), Intent("Bill")))
    action_id = step.action.action_id
    assert [each.intent_id for each in step.intents] == [
        uuid5(action_id, "0"),
        uuid5(action_id, "1"),
    ]
    mail = step.intents[0]
    assert (mail.intent_type, mail.target, mail.payload) == (
        "Mail",
        "a@example.org",
        b'{"a":2,"b":1}',
    )


def test_a_transition_has_up_to_a_thousand_intents() -> None:
    assert len(absorbed(with_intents(*[Intent("Mail")] * INTENTS_MAX)).intents) == INTENTS_MAX
    step = refused(with_intents(*[Intent("Mail")] * (INTENTS_MAX + 1)))
    assert f"a transition may have {INTENTS_MAX} intents" in step.detail


def test_the_intents_of_a_transition_are_bounded_in_all() -> None:
    mail = Intent("Mail", "", {"it": "x" * 1_000_000})
    assert len(absorbed(with_intents(*[mail] * 16)).intents) == 16
    assert "bytes in all" in refused(with_intents(*[mail] * 17)).detail


@pytest.mark.parametrize(
    ("intent", "says"),
    [
        ("Mail", "an intent must be an Intent, not str"),
        (None, "not NoneType"),
        (Intent(""), "invalid intent_type: has 0 bytes"),
        (Intent("x" * 201), "invalid intent_type: has 201 bytes"),
        (Intent(7), "invalid intent_type: is a int"),  # type: ignore[arg-type]
        (Intent("Mail", "a\0b"), "invalid target: must be text without NUL"),
        (Intent("Mail", None), "invalid target"),  # type: ignore[arg-type]
        (Intent("Mail", "a" * 2_049), "invalid target: has 2049 bytes; 2048 are allowed"),
        (Intent("Mail", "\ud800"), "surrogates not allowed"),
        (Intent("Mail", "", {"a": {1}}), "not JSON serializable: set"),
        (Intent("Mail", "", None), "'NoneType' object is not iterable"),  # type: ignore[arg-type]
        (Intent("Mail", "", {"it": "x" * INTENT_BYTES_MAX}), f"{INTENT_BYTES_MAX} are allowed"),
    ],
)
def test_an_intent_that_nobody_could_carry_out_gives_up_the_action(
    intent: object, says: str
) -> None:
    step = refused(with_intents(Intent("Good"), intent))
    assert step.reason == "reducer_error"
    assert says in step.detail


FOLLOW_UP = Intent.submit("order:1", "Placed", {})


@pytest.mark.parametrize(
    ("intent", "says"),
    [
        (Intent.submit("order", "Placed", {}), "'order' is not of the form type:id"),
        (Intent.submit("order:1", "", {}), "invalid type: has 0 bytes"),
        (Intent.submit("order:1", STATE_REPLACED, {}), "is the bridge's own"),
        (Intent("ActionAnswered", "order:2", {"event": "StateCommitted"}), "is the bridge's own"),
        (Intent.submit("order:1", "Placed", []), "payload (an object)"),  # type: ignore[arg-type]
        (Intent.submit("order:1", "Placed", {"a": 2**64}), "64-bit"),
        (Intent.submit(7, "Placed", {}), "invalid target"),  # type: ignore[arg-type]
        (Intent.submit("order:1", 7, {}), "invalid type: is a int"),  # type: ignore[arg-type]
        (replace(FOLLOW_UP, target="order:2"), "the target of SubmitAction is the key it names"),
        (replace(FOLLOW_UP, payload={}), "SubmitAction needs key, type and payload"),
        (replace(FOLLOW_UP, payload={**FOLLOW_UP.payload, "more": 1}), "SubmitAction needs"),
    ],
)
def test_a_follow_up_that_nobody_could_fold_gives_up_the_action(intent: Intent, says: str) -> None:
    step = refused(with_intents(intent))
    assert step.reason == "reducer_error"
    assert says in step.detail


def test_whatever_may_be_submitted_may_be_a_follow_up() -> None:
    payload = {"it": "x" * (PAYLOAD_BYTES_MAX - 9)}
    assert len(CODEC.encode(payload)) == PAYLOAD_BYTES_MAX
    key = "a:" + "\x1f" * 510  # a control character has six bytes in JSON
    assert absorbed(with_intents(Intent.submit(key, "\x1f" * 200, payload))).intents


def test_a_chain_of_follow_ups_ends_and_other_intents_go_on() -> None:
    assert absorbed(with_intents(FOLLOW_UP, depth=DEPTH_MAX - 1)).intents
    step = refused(with_intents(FOLLOW_UP, depth=DEPTH_MAX))
    assert f"may be {DEPTH_MAX} long" in step.detail
    assert absorbed(with_intents(Intent("Mail"), depth=DEPTH_MAX)).intents


def test_a_chain_of_effects_and_their_answers_ends_too() -> None:  # R10
    asks = Intent("Mail", reply_to="order:1")
    assert absorbed(with_intents(asks, depth=DEPTH_MAX - 1)).intents
    step = refused(with_intents(asks, depth=DEPTH_MAX))
    assert step.reason == "reducer_error"
    assert f"may be {DEPTH_MAX} long" in step.detail


@pytest.mark.parametrize("due_at", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00+12:00"])
def test_an_intent_due_outside_of_time_gives_up_the_action(due_at: str) -> None:
    moment = datetime.fromisoformat(due_at)
    for intent in (replace(FOLLOW_UP, due_at=moment), Intent("Mail", due_at=moment)):
        step = refused(with_intents(intent))
        assert step.reason == "reducer_error"
        assert "no time in UTC" in step.detail


def test_an_intent_is_due_at_a_time_or_some_time_after_its_commit_not_both() -> None:
    for intent in (replace(FOLLOW_UP, due_in_ms=7), Intent("Mail", due_in_ms=7)):
        (kept,) = absorbed(with_intents(intent)).intents
        assert (kept.due_at, kept.due_in_ms) == (None, 7)
        for wrong, words in (
            (replace(intent, due_at=COMMITTED_AT), "stands beside due_at"),
            (replace(intent, due_in_ms=-1), "invalid due_in_ms: is -1"),
        ):
            step = refused(with_intents(wrong))
            assert step.reason == "reducer_error"
            assert words in step.detail


def test_a_reply_is_an_intent_of_the_commit_with_an_id_of_its_own() -> None:
    action = replace(sealed(), reply_to="me")
    reply = seal_reply(action, {"b": 1, "a": 2}, CODEC)
    assert reply.intent_id == uuid5(action.action_id, "reply")
    assert (reply.intent_type, reply.target) == (ACTION_ANSWERED, "me")
    assert reply.payload == b'{"a":2,"b":1}'
    redriven = replace(action, purpose="redrive", redrive_id=UUID(int=7))
    again = seal_reply(redriven, {"b": 1, "a": 2}, CODEC)
    assert again == replace(reply, intent_id=uuid5(action.action_id, f"reply/{UUID(int=7)}"))


# -- projections -----------------------------------------------------------------------------------


def test_a_projection_is_told_key_state_type_and_commit_time() -> None:
    told: list[object] = []

    def view(key: str, state: dict[str, Any], action_type: str, at: datetime) -> Projection:
        told.extend((key, dict(state), action_type, at))
        state["count"] = "spoilt"
        return Projection("odd", "counters", {"b": 1, "a": 2}, {})

    step = absorbed(projected(view))
    assert told == [KEY, {"count": 1, "total": 1}, "Counted", COMMITTED_AT]
    assert step.projection == SealedProjection("odd", "counters", b'{"a":2,"b":1}', b"{}")
    assert step.snapshot.state == b'{"count":1,"total":1}'


def test_a_key_without_a_projection_is_projected_plainly() -> None:
    _, (step,) = folded([sealed("Counted", {"amount": 1})])
    assert absorbed(step).projection == SealedProjection("", "counter", None, None)


def raising_view(*_told: object) -> Projection:
    raise RuntimeError("no view")


@pytest.mark.parametrize(
    ("project", "says"),
    [
        (raising_view, "RuntimeError: no view"),
        (lambda *_: None, "the projection of 'counter' returned NoneType; return a Projection"),
        (lambda *_: {"tag": "odd"}, "returned dict"),
        (lambda *_: Projection("x" * 513, ""), "tag is at most 512 bytes"),
        (lambda *_: Projection("", "", {"it": float("nan")}), "nan is not a JSON number"),
        (lambda *_: Projection("", "", None, {"it": {1}}), "not JSON serializable: set"),
    ],
)
def test_a_projection_that_fails_gives_up_the_action(
    project: Callable[..., object], says: str
) -> None:
    step = refused(projected(project))
    assert step.reason == "reducer_error"
    assert says in step.detail
