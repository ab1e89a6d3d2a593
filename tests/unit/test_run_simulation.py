"""Whatever the order of replies, time-outs, late ones and duplicates, a run ends as it should."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from omninode_bridge.core.orchestration import RUN_CANCELLED, TERMINAL, run_outcome
from tests.unit.run_world import RunWorld

if TYPE_CHECKING:
    from random import Random

ROUNDS_MAX = 2_000
NAMES = "abcdef"


@st.composite
def contracts(draw: st.DrawFn) -> dict[str, Any]:
    """Return a contract that can work: steps that depend on earlier ones, with any policy."""
    steps = []
    for index in range(draw(st.integers(1, len(NAMES)))):
        name = NAMES[index]
        undo = draw(st.sampled_from(["do", "none"]))
        step: dict[str, Any] = {
            "name": name,
            "depends_on": draw(st.lists(st.sampled_from(NAMES[:index]), unique=True))
            if index
            else [],
            **ask(draw(st.booleans()), name, "do"),
            "undo": "none" if undo == "none" else ask(draw(st.booleans()), name, "undo"),
            "retry": {"attempts": draw(st.integers(1, 3))},
            "timeout_ms": draw(st.sampled_from([None, 1_000])),
            "on_failure": draw(st.sampled_from(["fail", "compensate", "continue"])),
        }
        if undo != "none":
            step["undo"] |= {"timeout_ms": draw(st.sampled_from([None, 500]))}
        steps.append(step)
    return {"name": "any", "version": 1, "steps": steps}


def ask(is_action: bool, name: str, part: str) -> dict[str, Any]:  # noqa: FBT001 - which of the two
    payload = {"step": name, "part": part, "id": "{step_id}"}
    if is_action:
        return {"action": {"key": f"thing:{name}", "type": "Asked", "payload": payload}}
    return {"effect": {"name": "Effect", "payload": payload}}


def to_its_end(world: RunWorld, contract: dict[str, Any], *, cancel_after: int | None) -> None:
    """Start a run, and let things happen until nothing is left that could."""
    world.start(contract, {})
    for number in range(ROUNDS_MAX):
        if number == cancel_after:
            world.take(RUN_CANCELLED, {"reason": "a person wishes so"})
        if not world.go_on():
            return
    raise AssertionError("it does not end")


runs = given(st.randoms(use_true_random=False), contracts(), st.none() | st.integers(0, 10))


@settings(max_examples=300)
@runs
def test_any_interleaving_ends_a_run_and_undoes_once_in_reverse_what_committed(
    dice: Random, contract: dict[str, Any], cancel_after: int | None
) -> None:
    world = RunWorld(dice)
    to_its_end(world, contract, cancel_after=cancel_after)
    outcome = run_outcome(world.state)
    assert outcome.status in TERMINAL
    assert all(asked.answered for asked in world.asked.values()), "nothing is left dangling"
    undoable = {step["name"] for step in contract["steps"] if step["undo"] != "none"}
    asked_undo = {asked.step for asked in world.asked.values() if asked.part == "undo"}
    happened = {a.step for a in world.asked.values() if a.part == "do" and (a.happened or a.maybe)}
    match outcome.status:
        case "COMPLETED":
            assert not asked_undo
            for step in contract["steps"]:
                done = outcome.step(step["name"]).status in ("DONE", "LATE")
                assert done or step["on_failure"] == "continue"
        case "FAILED":
            assert not asked_undo
        case "COMPENSATED":
            assert set(world.undone) == happened & undoable
        case _:
            failed = {step.name for step in outcome.steps if step.status == "UNDO_FAILED"}
            assert failed
            assert set(world.undone) == (happened & undoable) - failed
    assert max(Counter(world.undone).values(), default=1) == 1
    order = {step.name: step.order for step in outcome.steps}
    assert world.undone == sorted(world.undone, key=lambda name: -(order[name] or 0))
    certain = [name for name in world.learned if name in world.undone]
    assert [name for name in world.undone if name in certain] == list(reversed(certain))


@settings(max_examples=100)
@runs
def test_attempts_are_bounded(
    dice: Random, contract: dict[str, Any], cancel_after: int | None
) -> None:
    world = RunWorld(dice)
    to_its_end(world, contract, cancel_after=cancel_after)
    allowed = {step["name"]: step["retry"]["attempts"] for step in contract["steps"]}
    asks = Counter((asked.step, asked.part) for asked in world.asked.values())
    for (name, part), count in asks.items():
        assert count <= (allowed[name] if part == "do" else 5)
