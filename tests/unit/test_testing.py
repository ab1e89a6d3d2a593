"""Given/when/then says what a reducer promises, and notices one that is not pure (R1)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from omninode_bridge.core.message import Action, Intent
from omninode_bridge.core.reducer import Rejection, Transition
from omninode_bridge.testing import given

if TYPE_CHECKING:
    from collections.abc import Callable

    from omninode_bridge.core.reducer import Reducer

RECEIPT = Intent("SendReceipt", "mail", {"total": 40})


def order(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Place, then pay."""
    match action.type, state.get("status", "new"):
        case "Placed", "new":
            return Transition({"status": "open", "total": action.payload["total"]})
        case "Paid", "open":
            return Transition(state | {"status": "paid"}, (RECEIPT,))
        case _, status:
            return Rejection(f"an order that is {status} cannot be {action.type}")


PLACED = ("Placed", {"total": 40})
OPEN = {"status": "open", "total": 40}
PAID = {"status": "paid", "total": 40}


def fails(case: Callable[[], object], *words: str) -> None:
    """Demand that `case` fails, and that its message has these words."""
    with pytest.raises(AssertionError) as failure:
        case()
    for word in words:
        assert word in str(failure.value)


# -- what holds -----------------------------------------------------------


def test_a_case_that_holds_passes() -> None:
    given(order).when("Placed", {"total": 40}).then(OPEN).then_intents()
    given(order, state=OPEN).when("Paid").then(PAID).then_intents(RECEIPT)
    given(order).when("Paid").then_rejected("an order that is new cannot be Paid")
    given(order).when("Paid").then_rejected()


def test_what_came_before_can_be_told_as_actions() -> None:
    given(order).having(PLACED, "Paid").when("Paid").then_rejected()
    given(order).having(PLACED).having().when("Paid").then(PAID)
    assert given(order).having(PLACED, "Paid").state == b'{"status":"paid","total":40}'


def test_an_action_says_who_and_when() -> None:
    when, lease_id, correlation_id = datetime(2026, 5, 1, tzinfo=UTC), uuid4(), uuid4()

    def witness(state: dict[str, Any], action: Action) -> Transition:
        seen = [action.workflow_key, action.occurred_at.isoformat(), action.epoch]
        return Transition(state | {"seen": [*seen, str(action.lease_id), str(action.action_id)]})

    told = ["order:7", "2026-05-01T00:00:00+00:00", 3, str(lease_id), str(UUID(int=9))]
    start = given(witness, workflow_key="order:7")
    start.when(
        "Seen",
        action_id=UUID(int=9),
        occurred_at=when,
        epoch=3,
        lease_id=lease_id,
        correlation_id=correlation_id,
    ).then({"seen": told})
    action = Action(UUID(int=9), "order:7", "Seen", {}, when, 3, lease_id)
    start.when_action(action).then({"seen": told})
    assert start.having(action).state == start.when_action(action).state_after()


def test_an_id_is_the_same_in_each_run_and_another_for_each_action() -> None:
    def ids(state: dict[str, Any], action: Action) -> Transition:
        return Transition({"ids": [*state.get("ids", ()), str(action.action_id)]})

    first = given(ids).having("Seen", "Seen", "Seen").state
    assert first == given(ids).having("Seen", "Seen", "Seen").state
    assert len(set(json.loads(first)["ids"])) == 3


def test_what_a_reducer_raises_comes_through() -> None:
    def loud(_: dict[str, Any], action: Action) -> Transition:
        return Transition({"amount": action.payload["amount"]})

    with pytest.raises(KeyError, match="amount"):
        given(loud).when("Counted")


# -- what does not hold -----------------------------------------------------------


def test_another_state_is_shown_with_what_was_expected_and_where_they_differ() -> None:
    fails(
        lambda: given(order).when("Placed", {"total": 40}).then({"status": "new", "sum": 40}),
        "Placed led to another state",
        '  expected: {"status":"new","sum":40}',
        '  actual:   {"status":"open","total":40}',
        "status: expected 'new', actual 'open'",
        "sum: expected 40, actual nothing",
        "total: expected nothing, actual 40",
    )


@pytest.mark.parametrize("other", [40.0, "40", True, None, [40], {}])
def test_one_value_is_not_another_that_looks_like_it(other: object) -> None:
    def one(_: dict[str, Any], action: Action) -> Transition:
        return Transition({"lines": [{"value": action.payload["value"]}]})

    value = 1 if other is True else 40
    fails(
        lambda: given(one).when("Said", {"value": value}).then({"lines": [{"value": other}]}),
        f"lines[0].value: expected {other!r}, actual {value}",
    )


def test_lists_of_different_lengths_are_shown_whole() -> None:
    def three(_: dict[str, Any], action: Action) -> Transition:
        return Transition({"lines": [1, 2, 3], "by": action.type})

    fails(
        lambda: given(three).when("Said").then({"lines": [1, 2], "by": "Said"}),
        "lines: expected [1, 2], actual [1, 2, 3]",
    )


def test_only_so_many_differences_are_told() -> None:
    def many(_: dict[str, Any], action: Action) -> Transition:
        return Transition({f"{action.type}{n:02}": n for n in range(30)})

    fails(lambda: given(many).when("n").then({}), "n19: expected nothing", "... and 10 more")


def test_a_rejection_is_no_state_and_has_no_intents() -> None:
    words = ("was to be absorbed, and was rejected", "an order that is new cannot be Paid")
    fails(lambda: given(order).when("Paid").then(PAID), *words)
    fails(lambda: given(order).when("Paid").then_intents(), *words)
    fails(lambda: given(order).having("Paid"), *words)


def test_a_state_is_no_rejection() -> None:
    fails(
        lambda: given(order, state=OPEN).when("Paid").then_rejected("no"),
        "Paid was to be rejected, and was absorbed",
        "expected: 'no'",
        '{"status":"paid","total":40}',
    )
    fails(lambda: given(order, state=OPEN).when("Paid").then_rejected(), "expected: a rejection")


def test_a_rejection_has_its_reason() -> None:
    fails(
        lambda: given(order).when("Paid").then_rejected("because"),
        "rejected for another reason",
        "expected: 'because'",
        "actual:   'an order that is new cannot be Paid'",
    )


def test_intents_are_compared_in_their_order_and_with_their_payloads() -> None:
    def both(_: dict[str, Any], action: Action) -> Transition:
        return Transition({}, (RECEIPT, Intent("Tell", action.type)))

    result = given(both).when("Said")
    result.then_intents(RECEIPT, Intent("Tell", "Said"))
    fails(lambda: result.then_intents(Intent("Tell", "Said"), RECEIPT), "has other intents")
    fails(lambda: result.then_intents(RECEIPT), "has other intents", "Tell")
    fails(result.then_intents, "has other intents", "expected: []")
    fails(
        lambda: result.then_intents(
            Intent("SendReceipt", "mail", {"total": 41}), Intent("Tell", "Said")
        ),
        "[0].payload.total: expected 41, actual 40",
    )


# -- what no reducer may do -----------------------------------------------------------


def test_a_reducer_that_changes_the_state_it_was_given_is_told() -> None:
    def changing(state: dict[str, Any], _: Action) -> Transition:
        state["status"] = "paid"
        return Transition(state)

    fails(
        lambda: given(changing, state=OPEN).when("Paid"),
        "the reducer changed the state it was given",
        "status: was 'open', is 'paid'",
    )


def test_one_that_changes_its_input_and_then_rejects_is_told() -> None:
    def sly(state: dict[str, Any], _: Action) -> Rejection:
        state["lines"].append(object())
        return Rejection("as if nothing had happened")

    fails(
        lambda: given(sly, state={"lines": []}).when("Paid"),
        "the reducer changed the state it was given, to what is no JSON",
    )


def test_a_reducer_that_changes_the_payload_is_told() -> None:
    def taking(state: dict[str, Any], action: Action) -> Transition:
        return Transition(state | {"total": action.payload.pop("total")})

    fails(
        lambda: given(taking).when("Placed", {"total": 40}),
        "the reducer changed the payload it was given",
        "total: was 40, is nothing",
    )


def test_who_calls_keeps_what_was_handed_over() -> None:
    state, payload = {"lines": [1]}, {"total": 40}

    def changing(state: dict[str, Any], action: Action) -> Transition:
        state["lines"].append(2)
        action.payload.clear()
        return Transition(state)

    fails(lambda: given(changing, state=state).when("Placed", payload), "was given")
    assert (state, payload) == ({"lines": [1]}, {"total": 40})


def impure(differing: str) -> Reducer:
    """Return a reducer whose `differing` part is another one at each run."""
    runs = count(1)

    def reduce(state: dict[str, Any], _: Action) -> Transition | Rejection:
        run = next(runs)
        match differing:
            case "state":
                return Transition(state | {"lines": [{"id": run}]})
            case "intents":
                return Transition(state, (Intent("Tell", str(run)),))
            case "reason":
                return Rejection(f"run {run}")
            case _:
                return Transition(state) if run % 2 else Rejection("every other time")

    return reduce


@pytest.mark.parametrize(
    ("differing", "says"),
    [
        ("state", "state.lines[0].id: first 1, then 2"),
        ("intents", "intents[0].target: first '1', then '2'"),
        ("reason", "rejected: first 'run 1', then 'run 2'"),
        ("answer", "rejected: first None, then 'every other time'"),
    ],
)
def test_a_reducer_that_is_not_pure_is_told_what_differs(differing: str, says: str) -> None:
    fails(lambda: given(impure(differing)).when("Said"), "the reducer is not pure", says)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "returned NoneType; return a Transition or a Rejection"),
        ({"status": "open"}, "returned dict; return a Transition or a Rejection"),
        (Transition([1]), "a state is a dict (a JSON object), not list"),  # type: ignore[arg-type]
        (Transition({"at": datetime(2026, 1, 1, tzinfo=UTC)}), "the state returned is not JSON"),
        (Transition({"amount": float("nan")}), "nan is not a JSON number"),
        (Transition({"text": "a\0b"}), "NUL"),
        (Transition({}, ("SendReceipt",)), "an intent must be an Intent"),  # type: ignore[arg-type]
        (Transition({}, (Intent(""),)), "an intent could not be stored"),
        (Transition({}, (Intent("Tell", "", {"x": {1}}),)), "an intent could not be stored"),
        (Transition({}, (Intent.submit("nokey", "Placed", {}),)), "form type:id"),
        (Rejection(17), "a reason is text: Rejection(reason=17)"),  # type: ignore[arg-type]
    ],
)
def test_what_the_bridge_could_not_store_fails_here(returned: Any, says: str) -> None:  # noqa: ANN401
    fails(lambda: given(lambda _state, _action: returned).when("Said"), says)


def test_what_was_handed_over_must_be_json_too() -> None:
    fails(lambda: given(order, state={"when": object()}), "the state given is not JSON")
    fails(lambda: given(order).when("Placed", {"total": {1}}), "the payload given is not JSON")
    fails(
        lambda: given(order).when("Placed", {"total": 40}).then({"total": object()}),
        "the state expected is not JSON",
    )
