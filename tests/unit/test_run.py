"""What an action on a run's key leads to, told case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from omninode_bridge.core.message import DEPTH_MAX, Action, Intent, intent_id
from omninode_bridge.core.orchestration import RUN, TERMINAL, RunOutcome, run_outcome
from omninode_bridge.core.orchestration.asking import (
    ASK_BYTES_MAX,
    NESTING_MAX,
    RESULT_BYTES_MAX,
    dice,
)
from omninode_bridge.core.orchestration.book import DEEP
from omninode_bridge.core.orchestration.states import RUN_TABLE, STEP_TABLE
from omninode_bridge.core.reducer import Transition
from omninode_bridge.testing import given
from omninode_bridge.testing.clock import NOON
from omninode_bridge.testing.result import CODEC
from tests.unit.test_nesting import nested

if TYPE_CHECKING:
    from datetime import datetime

    from omninode_bridge.testing import Given, Result

KEY: Final = "run:w"
_IDS: Final = UUID(int=5)


class Story:
    """A run, told action by action."""

    def __init__(self, *steps: dict[str, Any], **given_input: object) -> None:
        """Start a run of these steps."""
        self.now: datetime = NOON
        self.numbers = 0
        self.told: Given = given(RUN.reduce, workflow_key=KEY)
        self.last: Result
        contract = {"name": "story", "version": 1, "steps": list(steps)}
        self.comes("RunStarted", {"contract": contract, "input": given_input})

    def comes(self, action_type: str, payload: dict[str, Any], **terms: Any) -> list[Any]:  # noqa: ANN401 - handed on as they are
        """Let an action come, which is absorbed; return what follows from it."""
        self.last = self.told.when_action(self.action(action_type, payload, **terms))
        self.told = replace(self.told, state=self.last.state_after())
        return [CODEC.decode(intent) for intent in self.last.intents]

    def is_rejected(self, action_type: str, payload: dict[str, Any], reason: str) -> None:
        """Demand that an action is rejected."""
        self.told.when_action(self.action(action_type, payload)).then_rejected(reason)

    def action(self, action_type: str, payload: dict[str, Any], **terms: Any) -> Action:  # noqa: ANN401 - handed on as they are
        """Return the next action, a second after the one before."""
        self.numbers += 1
        self.now += timedelta(seconds=1)
        number = uuid5(_IDS, str(self.numbers))
        return replace(Action(number, KEY, action_type, payload, self.now), **terms)

    def reason_of_start(self, contract: dict[str, Any]) -> str:
        """Return why a run of `contract` cannot begin."""
        begun = self.action("RunStarted", {"contract": contract, "input": {}})
        return given(RUN.reduce, workflow_key=KEY).when_action(begun).reason or ""

    @property
    def outcome(self) -> RunOutcome:
        """How far the run is."""
        return run_outcome(self.state)

    @property
    def state(self) -> dict[str, Any]:
        """The run's state."""
        state: dict[str, Any] = CODEC.decode(self.told.state)
        return state

    def ask(self, name: str) -> str:
        """Return the id of the attempt of a step that is under way."""
        record = self.state["steps"][name]
        return str(record.get("ask") or record["undo"]["ask"])

    def committed(self, name: str, version: int = 1, **terms: Any) -> list[Any]:  # noqa: ANN401 - handed on as they are
        """Let the key that a step asked commit."""
        told = {"workflow_key": "k:1", "action_id": self.ask(name), "event": "StateCommitted"}
        return self.comes("ActionAnswered", told | {"version": version}, **terms)

    def gave_up(self, name: str, reason: str, detail: str = "no") -> list[Any]:
        """Let the key that a step asked give up."""
        told = {"workflow_key": "k:1", "action_id": self.ask(name), "event": "ReducerGaveUp"}
        told |= {"attempts": 1, "reason": reason, "detail": detail, "version": 0}  # type: ignore[dict-item]
        return self.comes("ActionAnswered", told)

    def effect(self, name: str, status: str, result: Any = None, **terms: Any) -> list[Any]:  # noqa: ANN401 - handed on as they are
        """Let the effect that a step asked for end."""
        told = {"intent_id": self.ask(name), "intent_type": "E", "status": status, "detail": "no"}
        told |= {"result": result, "attempts": 1, "maybe_done": False} | terms
        return self.comes("EffectAnswered", told)

    def timed_out(self, name: str) -> list[Any]:
        """Let the time of the attempt under way be over."""
        return self.comes("StepTimedOut", {"step": name, "ask": self.ask(name)})

    def statuses(self) -> list[str]:
        """Return the statuses of all steps."""
        return [step.status for step in self.outcome.steps]


def act(name: str, *after: str, **policy: Any) -> dict[str, Any]:  # noqa: ANN401 - handed on as they are
    """Return a step that asks for an action, and one that undoes it."""
    action = {"key": f"k:{name}", "type": "Did", "payload": {"id": "{step_id}"}}
    undo = {"action": {"key": f"k:{name}", "type": "Undid"}}
    return {"name": name, "depends_on": list(after), "action": action, "undo": undo} | policy


def effect(name: str, *after: str, **policy: Any) -> dict[str, Any]:  # noqa: ANN401 - handed on as they are
    """Return a step that asks for an effect."""
    asked = {"name": "E", "payload": {"id": "{step_id}"}}
    return {"name": name, "depends_on": list(after), "effect": asked, "undo": "none"} | policy


def types(intents: list[Any]) -> list[str]:
    """Return what intents ask for, in a word each."""
    return [
        f"cancel {each['payload']['type']}"
        if "cancels" in each["payload"]
        else str(each["payload"].get("type", each["intent_type"]))
        for each in intents
    ]


# -- beginning ------------------------------------------------------------------------------------


def test_a_run_asks_for_its_first_steps_under_ids_that_it_knows() -> None:
    contract = {"name": "c", "version": 1, "steps": [act("a"), effect("b"), act("c", "a", "b")]}
    begun = Action(UUID(int=9), KEY, "RunStarted", {"contract": contract, "input": {}}, NOON)
    told = given(RUN.reduce, workflow_key=KEY).when_action(begun)
    told.then_intents(
        Intent.submit("k:a", "Did", {"id": "w/a"}, reply_to=KEY),
        Intent("E", payload={"id": "w/b"}, reply_to=KEY),
    )
    steps = CODEC.decode(told.state_after())["steps"]
    assert steps["a"]["ask"] == str(intent_id(UUID(int=9), 0))
    assert steps["b"]["ask"] == str(intent_id(UUID(int=9), 1))
    assert steps["c"] == {"status": "WAITING"}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({}, "needs an input: an object"),
        ({"input": {}}, "the contract: a contract must be a mapping"),
        ({"input": {}, "contract": {"name": "c", "version": 1, "steps": []}}, "steps: a contract"),
        (
            {"input": {}, "contract": {"name": "c", "version": 1, "steps": [act("a", "a")]}},
            "in a circle",
        ),
        (
            {
                "input": {"x": None},
                "contract": {
                    "name": "c",
                    "version": 1,
                    "steps": [act("a", undo={"action": {"key": "k:{input.x.y}", "type": "T"}})],
                },
            },
            "step a: {input.x.y} leads nowhere: input.x has no 'y'",
        ),
    ],
)
def test_what_cannot_begin_is_rejected_with_the_reason(payload: dict[str, Any], words: str) -> None:
    told = given(RUN.reduce, workflow_key=KEY).when("RunStarted", payload)
    told.then_rejected()
    assert words in (told.reason or "")


def test_a_run_begins_once() -> None:
    story = Story(act("a"))
    story.is_rejected("RunStarted", {}, "the run was started already: it is RUNNING")
    story.is_rejected("Danced", {}, "a run does not know Danced")
    told = given(RUN.reduce, workflow_key=KEY).when("RunCancelled")
    told.then_rejected("no run was started here: begin with RunStarted")


def test_a_chain_that_is_long_begins_no_run_and_a_run_that_is_deep_begins_a_new_chain() -> None:
    action = Action(UUID(int=1), KEY, "RunStarted", {"input": {}}, NOON, depth=DEPTH_MAX)
    told = given(RUN.reduce, workflow_key=KEY).when_action(action)
    told.then_rejected("a chain that is 1024 long can begin no run: its steps need room")
    story = Story(act("a"), act("b", "a"))
    asked = Intent.submit(
        "k:b", "Did", {"id": "w/b"}, reply_to=KEY, due_at=NOON + timedelta(seconds=7)
    )
    story.committed("a", depth=DEPTH_MAX - 1)
    story.last.then_intents(asked)


# -- going on -------------------------------------------------------------------------------------


def test_a_step_is_asked_for_when_all_it_depends_on_is_done() -> None:
    story = Story(act("a"), act("b"), act("c", "a", "b"))
    assert story.committed("a") == []
    assert types(story.committed("b")) == ["Did"]
    assert story.committed("c") == []
    assert story.outcome.status == "COMPLETED"
    assert story.outcome.ended_at == story.now.isoformat()
    assert [step.order for step in story.outcome.steps] == [1, 2, 3]


def test_results_and_versions_are_handed_on() -> None:
    payload = {"all": "{steps.b.result}", "text": "v{steps.a.version} {steps.b.result.x}"}
    last = act("c", "b", action={"key": "k:c", "type": "Did", "payload": payload})
    story = Story(act("a"), effect("b", "a"), last)
    story.committed("a", version=4)
    (asked,) = story.effect("b", "done", {"x": [1]} | {"x": 5})
    assert asked["payload"]["payload"] == {"all": {"x": 5}, "text": "v4 5"}


def test_a_reference_that_leads_nowhere_fails_its_step_visibly() -> None:
    last = act("b", "a", action={"key": "k:{steps.a.result.x}", "type": "Did"})
    story = Story(effect("a"), last)
    story.effect("a", "done", {})
    assert story.outcome.status == "COMPENSATED"
    detail = "step b: invalid: {steps.a.result.x} leads nowhere: steps.a.result has no 'x'"
    assert story.outcome.detail == detail


def test_a_step_that_cannot_be_asked_for_may_let_others_go_on() -> None:
    key = {"key": "k:{steps.a.result.x}", "type": "Did"}
    story = Story(effect("a"), act("c", "b"), act("b", "a", action=key, on_failure="continue"))
    assert types(story.effect("a", "done", {})) == ["Did"]
    assert story.statuses() == ["DONE", "ASKED", "FAILED"]


def test_what_is_too_large_is_not_asked_for() -> None:
    action = {"key": "k:1", "type": "Did", "payload": {"x": "{steps.a.result.x}"}}
    story = Story(effect("a"), act("b", "a", action=action))
    story.effect("a", "done", {"x": "x" * (ASK_BYTES_MAX - 20)})
    assert story.outcome.step("b").status == "ASKED"
    story = Story(
        effect("a"),
        act("b", "a", action=action | {"payload": {"x": ["{input.x}"] * 2}}),
        x="x" * 40_000,
    )
    story.effect("a", "done", None)
    assert "65536 are allowed" in story.outcome.detail


def test_a_result_that_is_too_large_is_not_kept_and_that_is_said() -> None:
    story = Story(effect("a"))
    story.effect("a", "done", {"x": "x" * RESULT_BYTES_MAX})
    step = story.outcome.step("a")
    assert (step.status, step.result) == ("DONE", None)
    assert "only 65536 are kept" in (step.detail or "")


def test_a_result_that_is_nested_too_deep_is_not_kept_and_the_run_goes_on() -> None:
    for depth in (NESTING_MAX, NESTING_MAX + 1, 250):
        story = Story(effect("a"), act("b", "a"))
        assert types(story.effect("a", "done", {"x": nested(depth - 1)})) == ["Did"]
        step = story.outcome.step("a")
        assert (step.status, step.result is None) == ("DONE", depth > NESTING_MAX)
        assert (step.detail or "") == (
            "the result is nested more than 100 deep: it is not kept" if depth > NESTING_MAX else ""
        )


def test_what_is_nested_too_deep_is_not_asked_for_and_begins_no_run() -> None:
    deep = nested(NESTING_MAX - 2)
    action = {"key": "k:1", "type": "Did", "payload": {"x": ["{input.x}"]}}
    story = Story(act("a", action=action), x=deep)
    assert story.outcome.step("a").status == "ASKED"
    story = Story(act("a", action=action), x=[deep])
    assert story.outcome.step("a").reason == "invalid"
    assert "the payload would be nested more than 100 deep" in story.outcome.detail
    contract = {"name": "c", "version": 1, "steps": [act("a")]}
    begun = story.action("RunStarted", {"contract": contract, "input": {"x": nested(248)}})
    told = given(RUN.reduce, workflow_key=KEY).when_action(begun)
    told.then_rejected("the input is nested more than 100 deep")


def test_a_reference_of_thousands_of_digits_leads_nowhere() -> None:
    action = {"key": "k:1", "type": "Did", "payload": {"x": f"{{steps.a.result.x.{'7' * 5_000}}}"}}
    story = Story(effect("a"), act("b", "a", action=action))
    story.effect("a", "done", {"x": [1, 2]})
    step = story.outcome.step("b")
    assert (step.status, step.reason) == ("FAILED", "invalid")
    assert (step.detail or "").startswith("{steps.a.result.x.777")


def test_a_key_that_cannot_be_one_fails_its_step() -> None:
    story = Story(
        effect("a"), act("b", "a", action={"key": "k:{input.x}", "type": "Did"}), x="x" * 512
    )
    story.effect("a", "done")
    assert "has 514 bytes" in story.outcome.detail


# -- failing --------------------------------------------------------------------------------------


def test_the_others_are_cancelled_and_awaited_and_undone_if_they_committed() -> None:
    story = Story(act("a"), act("b"), act("c"), act("d", "a"))
    assert types(story.gave_up("b", "rejected")) == ["cancel Did", "cancel Did"]
    assert story.statuses() == ["CANCELLING", "FAILED", "CANCELLING", "SKIPPED"]
    assert story.outcome.status == "COMPENSATING"
    story.gave_up("a", "cancelled")
    (undo,) = story.committed("c")
    assert undo["payload"]["type"] == "Undid"
    story.committed("c")
    assert story.outcome.status == "COMPENSATED"
    assert story.statuses() == ["CANCELLED", "FAILED", "UNDONE", "SKIPPED"]


def test_with_fail_what_is_under_way_is_awaited_and_nothing_undone() -> None:
    story = Story(act("a"), act("b", on_failure="fail"))
    story.gave_up("b", "rejected")
    assert story.outcome.status == "FAILING"
    assert story.committed("a") == []
    assert story.outcome.status == "FAILED"


def test_the_newest_commit_is_undone_first_one_after_another() -> None:
    story = Story(act("a"), act("b"), act("c", "a", "b"))
    story.committed("b")
    story.committed("a")
    (first,) = story.gave_up("c", "rejected")
    assert first["payload"]["key"] == "k:a"
    (second,) = story.committed("a")
    assert second["payload"]["key"] == "k:b"
    assert story.committed("b") == []
    assert story.outcome.status == "COMPENSATED"


def test_an_undo_is_retried_and_one_that_fails_for_good_is_named() -> None:
    undo = {"action": {"key": "k:a", "type": "Undid"}, "retry": {"attempts": 2}}
    story = Story(act("a"), act("b", "a", undo=undo), act("c", "b"))
    story.committed("a")
    story.committed("b")
    story.gave_up("c", "rejected")
    assert types(story.gave_up("b", "reducer_error")) == ["Undid"]
    assert types(story.gave_up("b", "reducer_error", "again")) == ["Undid"]
    story.committed("a")
    assert story.outcome.status == "COMPENSATION_FAILED"
    step = story.outcome.step("b")
    assert (step.status, step.undo_attempts) == ("UNDO_FAILED", 2)
    assert (step.undo_reason, step.undo_detail) == ("reducer_error", "again")


def test_an_undo_that_cannot_be_asked_for_has_failed() -> None:
    undo = {"action": {"key": "k:{steps.b.result.x}", "type": "Undid"}}
    story = Story(effect("b"), effect("a", "b", undo=undo))
    story.effect("b", "done", {"y": 1})
    story.effect("a", "dead", maybe_done=True)
    assert story.outcome.status == "COMPENSATION_FAILED"
    assert story.outcome.step("a").undo_reason == "invalid"


def test_a_run_that_began_with_a_contract_which_is_refused_today_goes_on() -> None:
    undo = {"effect": {"name": "Back", "payload": {"charge": "{input.x}"}}}
    story = Story(effect("a", undo=undo), act("b", "a"), x="x")
    state = story.state
    (first, second) = state["contract"]["steps"]
    first["undo"]["effect"]["payload"] = {"charge": "{steps.a.result.id}"}
    second["retry"]["attempts"] = 10_000
    assert "attempts: 'attempts' must be" in story.reason_of_start(state["contract"])
    second["retry"]["attempts"] = 99
    assert "may have happened" in story.reason_of_start(state["contract"])
    second["retry"]["attempts"] = 10_000
    second["was_known_once"] = True
    story.told = replace(story.told, state=CODEC.encode(state))
    assert types(story.effect("a", "done", {"id": "c-7"})) == ["Did"]
    for _ in range(150):
        assert types(story.gave_up("b", "reducer_error")) == ["Did"]
    (back,) = story.gave_up("b", "rejected")
    assert (back["intent_type"], back["payload"]) == ("Back", {"charge": "c-7"})


@pytest.mark.parametrize(("reason", "again"), [("cancelled", True), ("rejected", False)])
def test_an_undo_out_of_time_is_cancelled_and_asked_for_again(reason: str, again: bool) -> None:  # noqa: FBT001 - a parameter of the test
    undo = {"action": {"key": "k:a", "type": "Undid"}, "timeout_ms": 100}
    story = Story(act("a", undo=undo), act("b", "a"))
    story.committed("a")
    assert types(story.gave_up("b", "rejected")) == ["Undid", "StepTimedOut"]
    assert types(story.timed_out("a")) == ["cancel Undid"]
    story.is_rejected(
        "StepTimedOut", {"step": "a", "ask": story.ask("a")}, "the attempt of a was over in time"
    )
    asked = types(story.gave_up("a", reason))
    assert asked == (["Undid", "StepTimedOut"] if again else [])


def test_an_undo_that_was_only_late_has_undone() -> None:
    undo = {"action": {"key": "k:a", "type": "Undid"}, "timeout_ms": 100}
    story = Story(act("a", undo=undo), act("b", "a"))
    story.committed("a")
    story.gave_up("b", "rejected")
    story.timed_out("a")
    story.committed("a")
    assert story.outcome.status == "COMPENSATED"


def test_a_dead_effect_that_may_have_happened_is_undone_one_that_has_not_is_not() -> None:
    for maybe, status in ((True, "UNDOING"), (False, "FAILED")):
        story = Story(effect("a", undo={"effect": {"name": "Back"}}))
        story.effect("a", "dead", maybe_done=maybe)
        assert story.statuses() == [status]


def test_that_an_earlier_attempt_may_have_happened_is_not_forgotten() -> None:
    policy = {"undo": {"effect": {"name": "Back"}}, "retry": {"attempts": 2}}
    story = Story(effect("a", **policy))
    story.effect("a", "dead", maybe_done=True)
    story.effect("a", "cancelled", maybe_done=False)
    assert story.statuses() == ["UNDOING"]


# -- time -----------------------------------------------------------------------------------------


def test_a_step_with_a_time_out_sets_a_timer_on_the_run() -> None:
    story = Story(act("a", timeout_ms=1_500))
    asked, timer = (CODEC.decode(intent) for intent in story.last.intents)
    assert asked["payload"]["type"] == "Did"
    assert timer["target"] == KEY
    assert timer["payload"]["payload"] == {"step": "a", "ask": story.ask("a")}


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=3_650), timedelta(days=-3_650)])
def test_time_is_counted_from_the_commit_whatever_the_clock_of_who_asks(ago: timedelta) -> None:
    retry = {"attempts": 2, "base_ms": 200, "cap_ms": 200}
    contract = {"name": "c", "version": 1, "steps": [act("a", timeout_ms=1_500, retry=retry)]}
    payload = {"contract": contract, "input": {}}
    begun = RUN.reduce({}, Action(UUID(int=9), KEY, "RunStarted", payload, NOON - ago))
    assert isinstance(begun, Transition)
    assert [(each.due_at, each.due_in_ms) for each in begun.intents] == [
        (None, None),
        (None, 1_500),
    ]
    told = {"action_id": str(intent_id(UUID(int=9), 0)), "event": "ReducerGaveUp"}
    told |= {"reason": "reducer_error", "detail": "no"}
    gave_up = Action(UUID(int=10), KEY, "ActionAnswered", told, NOON - ago)
    for depth, wait_ms in ((1, 200), (DEEP, 5_000)):
        again = RUN.reduce(dict(begun.state), replace(gave_up, depth=depth))
        assert isinstance(again, Transition)
        assert [(each.due_at, each.due_in_ms) for each in again.intents] == [
            (None, wait_ms),
            (None, wait_ms + 1_500),
        ]


def test_out_of_time_a_step_has_failed_is_cancelled_and_undone_if_it_committed_late() -> None:
    story = Story(act("a", timeout_ms=100))
    assert types(story.timed_out("a")) == ["cancel Did"]
    assert (story.outcome.status, story.statuses()) == ("COMPENSATING", ["UNKNOWN"])
    assert types(story.committed("a")) == ["Undid"]
    story.committed("a")
    assert (story.outcome.status, story.statuses()) == ("COMPENSATED", ["UNDONE"])


def test_out_of_time_and_cancelled_a_step_has_not_happened() -> None:
    story = Story(act("a", timeout_ms=100))
    story.timed_out("a")
    assert story.gave_up("a", "cancelled") == []
    assert (story.outcome.status, story.statuses()) == ("COMPENSATED", ["FAILED"])
    assert story.outcome.step("a").reason == "timeout"


def test_an_optional_step_out_of_time_lets_others_go_on_and_its_end_is_awaited() -> None:
    story = Story(act("a", timeout_ms=100, on_failure="continue"), act("b", "a"))
    assert types(story.timed_out("a")) == ["cancel Did", "Did"]
    story.committed("b")
    assert story.outcome.status == "RUNNING"
    story.committed("a")
    assert (story.outcome.status, story.statuses()) == ("COMPLETED", ["LATE", "DONE"])


def test_an_optional_step_that_was_late_is_undone_like_any_other() -> None:
    story = Story(act("a", timeout_ms=100, on_failure="continue"), act("b", "a"))
    story.timed_out("a")
    story.committed("a")
    assert types(story.gave_up("b", "rejected")) == ["Undid"]


def test_with_attempts_left_a_step_out_of_time_is_asked_for_again_once_it_is_known() -> None:
    story = Story(act("a", timeout_ms=100, retry={"attempts": 2}))
    assert types(story.timed_out("a")) == ["cancel Did"]
    assert story.statuses() == ["TIMED_OUT"]
    assert types(story.gave_up("a", "cancelled")) == ["Did", "StepTimedOut"]
    assert story.outcome.step("a").attempts == 2


def test_with_attempts_left_a_late_commit_is_a_commit() -> None:
    story = Story(act("a", timeout_ms=100, retry={"attempts": 2}))
    story.timed_out("a")
    story.committed("a")
    assert (story.outcome.status, story.statuses()) == ("COMPLETED", ["DONE"])


def test_an_effect_out_of_time_is_cancelled_by_its_id() -> None:
    story = Story(effect("a", timeout_ms=100))
    asked = story.ask("a")
    (cancel,) = story.timed_out("a")
    assert (cancel["intent_type"], cancel["target"]) == ("CancelEffect", asked)


def test_a_timer_or_a_reply_of_an_attempt_that_is_over_changes_nothing() -> None:
    story = Story(act("a", timeout_ms=100, retry={"attempts": 2}))
    first = story.ask("a")
    story.gave_up("a", "reducer_error")
    late = {"step": "a", "ask": first}
    story.is_rejected("StepTimedOut", late, "the attempt of a was over in time")
    told = {"action_id": first, "event": "StateCommitted", "version": 1}
    story.is_rejected("ActionAnswered", told, f"no step waits for {first}")
    story.is_rejected("StepTimedOut", {}, "the attempt of None was over in time")


@pytest.mark.parametrize(
    ("reason", "again"),
    [("reducer_error", True), ("conflict", True), ("rejected", False), ("invalid", False)],
)
def test_a_decision_is_not_asked_for_again(reason: str, again: bool) -> None:  # noqa: FBT001 - a parameter of the test
    story = Story(act("a", retry={"attempts": 2}))
    assert types(story.gave_up("a", reason)) == (["Did"] if again else [])


@for_all(st.integers(1, 500), st.integers(500, 5_000))
def test_waits_between_attempts_have_jitter_a_bound_and_no_dice_of_their_own(
    base_ms: int, cap_ms: int
) -> None:
    waits: list[list[int]] = []
    for _ in range(2):
        retry = {"attempts": 6, "base_ms": base_ms, "cap_ms": cap_ms}
        story = Story(act("a", retry=retry))
        waits.append([])
        for _ in range(5):
            story.gave_up("a", "reducer_error")
            waits[-1].append(story.state["steps"]["a"]["wait_ms"])
    assert waits[0] == waits[1]
    assert all(base_ms <= wait <= cap_ms for wait in waits[0])


@for_all(st.integers(), st.floats(0, 1e6), st.floats(0, 1e6))
def test_dice_fall_within_their_bounds(name: int, low: float, more: float) -> None:
    assert low <= dice(name)(low, low + more) <= low + more


# -- people and orchestrators ---------------------------------------------------------------------


def test_a_person_cancels_a_run_and_what_committed_is_undone() -> None:
    story = Story(act("a"), act("b", "a"))
    story.committed("a")
    assert types(story.comes("RunCancelled", {"reason": "enough"})) == ["cancel Did"]
    assert story.outcome.detail == "cancelled: enough"
    story.is_rejected("RunCancelled", {}, "the run is being compensated already")
    story.gave_up("b", "cancelled")
    story.committed("a")
    assert story.statuses() == ["UNDONE", "CANCELLED"]
    story.is_rejected("RunCancelled", {}, "the run is over: it is COMPENSATED")


def test_a_run_that_is_failing_can_still_be_cancelled() -> None:
    story = Story(act("a"), act("b"), act("c", on_failure="fail"))
    story.committed("a")
    story.gave_up("c", "rejected")
    assert story.outcome.status == "FAILING"
    story.comes("RunCancelled", {})
    assert types(story.gave_up("b", "cancelled")) == ["Undid"]


def test_to_take_over_needs_an_epoch_and_changes_nothing_else() -> None:
    story = Story(act("a"))
    before = story.state
    story.is_rejected("RunTakenOver", {}, "RunTakenOver needs an epoch, higher than the run's")
    assert story.comes("RunTakenOver", {}, epoch=2) == []
    assert story.state == before | {"epoch": 2}


# -- the tables -----------------------------------------------------------------------------------


def test_nothing_leads_out_of_a_terminal_status() -> None:
    assert all(RUN_TABLE.allowed(status) == () for status in TERMINAL)
    assert {s for s in RUN_TABLE.states if not RUN_TABLE.allowed(s)} == TERMINAL
    ends = {status for status in STEP_TABLE.states if not STEP_TABLE.allowed(status)}
    assert ends == {"SKIPPED", "UNDONE", "UNDO_FAILED"}


def test_the_projection_shows_the_status_and_counts_steps() -> None:
    story = Story(act("a"), act("b", "a"))
    row = RUN.project(KEY, story.state, "RunStarted", NOON)
    assert (row.tag, row.namespace) == ("RUNNING", "story")
    assert row.indices == {"steps": 2, "asked": 1, "waiting": 1}
    assert row.extras is not None
    assert "ended_at" not in row.extras
