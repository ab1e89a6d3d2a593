"""The effect runner on the world in memory: at least once, ends once, nobody held up (R10)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from omninode_bridge.core.effect_attempt import raised
from omninode_bridge.core.effect_types import EffectCall, EffectResult, EffectType
from omninode_bridge.core.effects import LoggedIntent, OpenEffect, ParkedEffect, done
from omninode_bridge.core.errors import (
    BrokenPromise,
    DatabaseRefused,
    DatabaseUnavailable,
    EffectRefused,
    ValueRefused,
)
from omninode_bridge.core.message import Intent, intent_id, reply_id
from omninode_bridge.core.observation import (
    EffectAttempted,
    EffectsLeft,
    EffectsSettled,
    LoopStumbled,
)
from omninode_bridge.core.reducer import KeyType, SealedIntent, Transition
from omninode_bridge.core.retry import Backoff
from omninode_bridge.core.slots import Slots
from omninode_bridge.ports import CutOff, EffectsBegun
from omninode_bridge.services.effect_runner import EffectRunner, attempts, runner
from omninode_bridge.testing import MemoryWorld, SettableClock
from tests.bridges import until
from tests.unit import workers
from tests.unit.workers import CODEC, Dice, action

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from omninode_bridge.core.message import Action, SealedAction
    from omninode_bridge.core.observation import Observation
    from omninode_bridge.testing.interruptions import When

QUICK: Final = Backoff(3, 1, 2)
NOT_OVER: Final = timedelta(seconds=1)


def _ask(state: dict[str, Any], action: Action) -> Transition:  # noqa: ARG001 - the signature it has to have
    """Ask for the effects that the payload names."""
    due_in_s = action.payload.get("due_in_s")
    due_at = None if due_in_s is None else action.occurred_at + timedelta(seconds=due_in_s)
    asked = tuple(
        Intent(
            name,
            payload={"n": n, **action.payload.get("more", {})},
            reply_to=action.payload.get("reply_to"),
            due_at=due_at,
        )
        for n, name in enumerate(action.payload["effects"])
    )
    cancelled = tuple(Intent.cancel_effect(one) for one in _ids(action.payload.get("cancels", ())))
    return Transition({}, (*asked, *cancelled))


def _ids(texts: list[str]) -> list[UUID]:
    return [UUID(text) for text in texts]


@pytest.fixture(autouse=True)
def _asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the keys `ask:...` a reducer that asks for effects."""
    monkeypatch.setitem(workers.KEY_TYPES, "ask", KeyType("ask", 1, _ask))


class Handlers:
    """Handlers that write down their calls, and do what a test wants."""

    def __init__(self) -> None:
        """Begin with none called."""
        self.calls: list[EffectCall] = []
        self.under_way = 0
        self.most = 0

    def effect(
        self,
        name: str,
        do: Callable[[EffectCall], Awaitable[Any]] | None = None,
        **terms: Any,  # noqa: ANN401 - the fields of an effect type
    ) -> EffectType:
        """Return an effect that does `do`."""

        async def handle(call: EffectCall) -> Any:  # noqa: ANN401 - whatever a test says
            self.calls.append(call)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                return None if do is None else await do(call)
            finally:
                self.under_way -= 1

        return EffectType(name, handle, **{"backoff": QUICK} | terms)

    def numbers(self) -> list[int]:
        """Return which intents the handlers were called for, in order."""
        return [call.payload["n"] for call in self.calls]


class Running:
    """A runner, and what it told."""

    def __init__(
        self,
        world: MemoryWorld,
        types: list[EffectType],
        owner: UUID | None,
        ahead: timedelta = timedelta(),
    ) -> None:
        """Begin; the runner's clock is `ahead` of the world's."""
        self.world = world
        self.facts: list[Observation] = []
        self.runner = EffectRunner(
            0,
            owner,
            types={one.name: one for one in types},
            slots=Slots({one.name: one.concurrency for one in types}),
            log=world.effects,
            parked=world.effects,
            ends=world.effects,
            codec=CODEC,
            clock=lambda: world.clock() + ahead,
            uniform=Dice(),
            observe=self.facts.append,
        )
        self.task = asyncio.create_task(self.runner.run())

    def uses(self, **ports: Any) -> None:  # noqa: ANN401 - what stands in for a port
        """Let the runner use other ports from its next beginning on."""
        self.runner._world = replace(self.runner._world, **ports)

    def attempts(self) -> list[str]:
        """Return how each attempt ended."""
        return [fact.ended for fact in self.facts if isinstance(fact, EffectAttempted)]

    async def until_settled(self, position: int) -> None:
        """Wait until the position is there and nothing more is said."""
        at = ("effects", "intent", 0, 0)
        await until(lambda: self.world._tables.positions[at] == position, "the position")


@asynccontextmanager
async def running(
    world: MemoryWorld,
    *types: EffectType,
    owner: UUID | None = None,
    ahead: timedelta = timedelta(),
) -> AsyncIterator[Running]:
    """Run a runner for the length of the block."""
    started = Running(world, list(types), owner, ahead)
    yield started
    started.runner.stop()
    async with asyncio.timeout(20):
        await started.task


def new_world() -> MemoryWorld:
    """Return a world of one partition."""
    return MemoryWorld(clock=SettableClock(), partitions=1)


async def ask_for(
    world: MemoryWorld,
    *effects: str,
    key: str = "ask:1",
    **more: Any,  # noqa: ANN401 - more of the payload
) -> SealedAction:
    """Commit an action that asks for `effects`."""
    asked = action(key, payload={"effects": list(effects), **more})
    await workers.commit_beside(world, asked)
    return asked


async def answers(world: MemoryWorld) -> list[dict[str, Any]]:
    """Return the answers in the intent log."""
    page = await world.intents.read(0, 1, 10_000)
    assert not isinstance(page, CutOff)
    bodies = [
        CODEC.decode(e.intent.payload) for e in page if e.intent.intent_type == "SubmitAction"
    ]
    return [body["payload"] for body in bodies if body["type"] == "EffectAnswered"]


async def test_a_handler_gets_the_intent_with_its_stable_id() -> None:
    world, handlers = new_world(), Handlers()
    asked = await ask_for(world, "Mail", "Mail")
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(3)
    first, second = handlers.calls
    assert first.intent_id == intent_id(asked.action_id, 0)
    assert second.intent_id == intent_id(asked.action_id, 1)
    assert (first.workflow_key, first.action_id) == ("ask:1", asked.action_id)
    assert (first.attempt, first.attempts) == (1, QUICK.attempts)
    assert (first.payload, first.committed_at) == ({"n": 0}, world.clock())


async def test_what_is_over_is_not_done_again() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail", "Mail", "Mail")
    for _ in range(2):
        async with running(world, handlers.effect("Mail")) as started:
            await started.until_settled(4)
    assert handlers.numbers() == [0, 1, 2]


async def test_an_end_that_was_not_durable_is_done_again_with_the_same_id() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail")
    begun = Running(world, [handlers.effect("Mail", lambda _: asyncio.sleep(60))], None)
    await until(lambda: bool(handlers.calls), "the call")
    begun.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun.task
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(2)
    first, second = handlers.calls
    assert first.intent_id == second.intent_id


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["effects.settle", "effects.read", "effects.due", "effects.begin"])
async def test_a_lost_connection_loses_and_doubles_nothing(call: Any, when: When) -> None:  # noqa: ANN401 - whatever a test says
    world, handlers = new_world(), Handlers()
    follow = EffectResult({"ok": True}, (Intent.submit("counter:1", "Counted", {"amount": 1}),))

    async def do(_: EffectCall) -> EffectResult:
        return follow

    world.interrupt(call, when=when, skip=1 if call == "effects.due" else 0, times=2)
    await ask_for(world, "Mail", "Mail", reply_to="counter:1")
    async with running(world, handlers.effect("Mail", do)) as started:
        await until(lambda: len(handlers.calls) == 2, "both")
        await started.until_settled(7)  # two effects, two follow-ups, two answers
    assert handlers.numbers() == [0, 1]
    assert len(await answers(world)) == 2
    assert any(isinstance(fact, LoopStumbled) for fact in started.facts)


async def test_a_failure_is_tried_again_until_it_is_dead() -> None:
    world, handlers = new_world(), Handlers()

    async def fail(_: EffectCall) -> None:
        message = "out of order"
        raise ValueError(message)

    await ask_for(world, "Mail", reply_to="counter:1")
    async with running(world, handlers.effect("Mail", fail)) as started:
        await until(lambda: "dead" in started.attempts() or advance(world), "the last attempt")
    assert started.attempts() == ["failed", "failed", "dead"]
    assert [call.attempt for call in handlers.calls] == [1, 2, 3]
    assert len({call.intent_id for call in handlers.calls}) == 1
    (answer,) = await answers(world)
    assert (answer["status"], answer["attempts"], answer["maybe_done"]) == ("dead", 3, True)
    assert "out of order" in answer["detail"]
    assert len(world.effects.dead(0)) == 1


def advance(world: MemoryWorld) -> bool:
    """Let a second pass in the world; False, so that a condition may end with it."""
    world.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
    return False


async def test_a_refusal_is_the_end_at_once() -> None:
    world, handlers = new_world(), Handlers()

    async def refuse(_: EffectCall) -> None:
        raise EffectRefused("no such card")

    async with running(world, handlers.effect("Mail", refuse)) as started:
        await until(lambda: started.runner._looks.log > 0, "the first look")
        await ask_for(world, "Mail", reply_to="counter:1")
        started.runner.intents_grew()
        await until(lambda: started.attempts() == ["dead"], "the end")
    (answer,) = await answers(world)
    assert (answer["detail"], answer["attempts"]) == ("no such card", 1)
    assert answer["maybe_done"] is False, "the handler has said so"


async def test_a_dead_effect_that_is_redriven_runs_again_and_its_follow_ups_come_once() -> None:
    world, handlers = new_world(), Handlers()
    working = False

    async def work(_: EffectCall) -> EffectResult:
        if not working:
            raise EffectRefused("not yet")
        return EffectResult({}, (Intent.submit("counter:1", "Counted", {"amount": 1}),))

    asked = await ask_for(world, "Mail", reply_to="counter:1")
    mail_id = intent_id(asked.action_id, 0)
    mail = handlers.effect("Mail", work)
    async with running(world, mail) as started:
        await until(lambda: started.attempts() == ["dead"], "the end")
        await until(lambda: len(world.effects.dead(0)) == 1, "the dead letter")
        working = True
        assert world.effects.redrive(0, mail_id)
        assert not world.effects.redrive(0, mail_id)
        await until(lambda: started.attempts() == ["dead", "done"], "the second end")
    page = await world.intents.read(0, 1, 10)
    assert not isinstance(page, CutOff)
    assert [e.intent.intent_id for e in page] == [
        *(mail_id, reply_id(mail_id)),
        *(intent_id(mail_id, 0), reply_id(mail_id, 1)),
    ]
    assert [answer["status"] for answer in await answers(world)] == ["dead", "done"]


async def test_a_handler_that_takes_too_long_has_failed() -> None:
    world, handlers = new_world(), Handlers()
    slow = handlers.effect("Mail", lambda _: asyncio.sleep(60), timeout_s=0.02)
    await ask_for(world, "Mail", reply_to="counter:1")
    async with running(world, slow) as started:
        await until(lambda: "dead" in started.attempts() or advance(world), "the last attempt")
    (answer,) = await answers(world)
    assert answer["detail"].startswith("no end within 0.02 s")


@pytest.mark.parametrize(
    "returned",
    [5, {"x": float("nan")}, EffectResult({}, ("no intent",)), {"x": "y" * 600_000}],  # type: ignore[arg-type]
)
async def test_what_cannot_be_stored_has_failed(returned: object) -> None:
    world, handlers = new_world(), Handlers()

    async def give(_: EffectCall) -> object:
        return returned

    await ask_for(world, "Mail")
    async with running(world, handlers.effect("Mail", give)) as started:
        await until(lambda: "dead" in started.attempts() or advance(world), "the last attempt")
    assert started.attempts() == ["failed", "failed", "dead"]


async def test_no_more_than_the_slots_are_under_way() -> None:
    world, handlers = new_world(), Handlers()
    mail = handlers.effect("Mail", lambda _: asyncio.sleep(0.002), concurrency=3)
    await ask_for(world, *["Mail"] * 30)
    async with running(world, mail) as started:
        await started.until_settled(31)
    assert handlers.most == 3
    assert sorted(handlers.numbers()) == list(range(30))


async def test_a_slow_effect_holds_up_nobody_else() -> None:
    world, slow, quick = new_world(), Handlers(), Handlers()
    hang = slow.effect("Slow", lambda _: asyncio.sleep(60), concurrency=2)
    await ask_for(world, *["Slow"] * 900)
    await ask_for(world, *["Slow"] * 300, *["Quick"] * 50, key="ask:2")
    async with running(world, hang, quick.effect("Quick")) as started:
        await until(lambda: len(quick.calls) == 50, "the quick ones")
        assert len(slow.calls) == 2
        started.runner.stop()
        for task in list(started.runner._attempts._tasks.values()):
            task.cancel()


async def test_a_failing_effect_holds_up_nobody_else() -> None:
    world, handlers = new_world(), Handlers()

    async def fail_first(call: EffectCall) -> None:
        if call.payload["n"] == 0:
            message = "always"
            raise ValueError(message)

    mail = handlers.effect("Mail", fail_first, backoff=Backoff(3, 60_000, 60_000))
    await ask_for(world, *["Mail"] * 20)
    async with running(world, mail) as started:
        await started.until_settled(21)
    assert handlers.numbers() == list(range(20))
    assert started.attempts().count("failed") == 1


async def test_what_failed_is_tried_again_while_there_is_always_something_new() -> None:
    world, handlers = new_world(), Handlers()

    async def fail_once(call: EffectCall) -> None:
        if call.payload["n"] == 0 and call.attempt == 1:
            message = "once"
            raise ValueError(message)
        advance(world)
        await asyncio.sleep(0.001)

    await ask_for(world, *["Mail"] * 600)
    async with running(world, handlers.effect("Mail", fail_once, concurrency=1)) as started:
        await until(lambda: len(handlers.calls) == 601 or advance(world), "the second attempt")
        await started.until_settled(601)
    numbers = handlers.numbers()
    assert sorted(numbers) == sorted([0, *range(600)])
    assert numbers.index(0, 1) < 400, "not only when all others were over"


async def test_what_fails_again_and_again_leaves_slots_to_others() -> None:
    world, handlers = new_world(), Handlers()
    release = asyncio.Event()

    async def hang(call: EffectCall) -> None:
        if call.payload["n"] < 32:
            if call.attempt == 1:
                message = "once"
                raise ValueError(message)
            await release.wait()

    mail = handlers.effect("Mail", hang, backoff=Backoff(2, 1, 1), concurrency=16)
    await ask_for(world, *["Mail"] * 500)
    async with running(world, mail) as started:
        await until(lambda: len(set(handlers.numbers())) == 500 or advance(world), "all others")
        release.set()
        await until(lambda: len(handlers.calls) == 532 or advance(world), "the last attempts")
        await started.until_settled(501)
    assert handlers.most <= 16


async def test_an_ordered_effect_waits_for_the_one_before_it_even_if_that_fails() -> None:
    world, handlers = new_world(), Handlers()

    async def stumble(call: EffectCall) -> None:
        if call.payload["n"] == 1 and call.attempt < 3:
            message = "stumbled"
            raise ValueError(message)

    ship = handlers.effect("Ship", stumble, ordered=True)
    await ask_for(world, *["Ship"] * 5)
    async with running(world, ship) as started:
        await until(lambda: len(handlers.calls) >= 7 or advance(world), "all")
        await started.until_settled(6)
    assert handlers.numbers() == [0, 1, 1, 1, 2, 3, 4]


@pytest.mark.parametrize("transactional", [False, True])
async def test_a_lane_that_fills_the_window_is_done_in_order_and_once(transactional: bool) -> None:  # noqa: FBT001 - a parameter of the test
    world, release, at_once = new_world(), asyncio.Event(), list[int]()
    called: list[int] = []

    async def handle(call: EffectCall, *_: object) -> None:
        at_once.append(call.payload["n"])
        called.append(call.payload["at"])
        assert len(at_once) == 1, "one after another"
        if called == [0]:
            await release.wait()
        at_once.pop()

    ship = EffectType("Ship", handle, ordered=True, concurrency=2, transactional=transactional)
    for at in range(1_100):
        await ask_for(world, "Ship", more={"at": at})
    async with running(world, ship, Handlers().effect("Mail")) as started:
        await until(lambda: len(world._tables.partition(0).effects) > 900, "it is crowded out")
        assert called == [0]
        release.set()
        await until(lambda: len(called) == 1_100, "all", 60)
        await started.until_settled(1_101)
    assert called == list(range(1_100))
    assert world._tables.partition(0).effects == {}


async def test_a_parked_effect_that_turns_out_to_be_over_is_no_more_given_out() -> None:
    world, calls = new_world(), list[int]()
    tables = world._tables.partition(0)

    async def handle(call: EffectCall, _: object) -> None:
        calls.append(call.attempt)
        if call.attempt == 1:
            message = "once"
            raise ValueError(message)
        # Somebody else has ended it meanwhile, and its row is there still.
        tables.effects_ended[1, 0] = done(tables.effects[1].effect, 2, None, CODEC)

    mail = EffectType("Mail", handle, transactional=True, backoff=QUICK)
    await ask_for(world, "Mail")
    async with running(world, mail):
        await until(lambda: len(calls) == 2 or advance(world), "the second attempt")
        await until(lambda: tables.effects == {}, "its row is gone")
    assert calls == [1, 2]


async def test_order_holds_over_a_restart() -> None:
    world, handlers = new_world(), Handlers()

    async def fail(_: EffectCall) -> None:
        message = "not now"
        raise ValueError(message)

    await ask_for(world, *["Ship"] * 2)
    long = Backoff(3, 60_000, 60_000)
    async with running(world, handlers.effect("Ship", fail, ordered=True, backoff=long)) as started:
        await started.until_settled(3)
    await ask_for(world, "Ship", key="ask:1")
    async with running(world, handlers.effect("Ship", ordered=True)) as started:
        await started.until_settled(4)
        assert len(handlers.calls) == 1, "the first one's time has not come"
        world.clock.advance(timedelta(minutes=2))  # type: ignore[attr-defined]
        await until(lambda: len(handlers.calls) == 4, "all")
    assert handlers.numbers() == [0, 0, 1, 0]


async def test_an_effect_that_is_due_later_waits_for_its_time() -> None:
    world, handlers = new_world(), Handlers()

    def later(_: dict[str, Any], action: Action) -> Transition:
        at = action.occurred_at + timedelta(hours=1)
        return Transition({}, (Intent("Mail", payload={"n": 0}, due_at=at),))

    workers.KEY_TYPES["later"] = KeyType("later", 1, later)
    await workers.commit_beside(world, action("later:1", payload={}))
    del workers.KEY_TYPES["later"]
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(2)
        assert handlers.calls == []
        world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
        await until(lambda: len(handlers.calls) == 1, "the call")


async def test_an_intent_without_a_handler_is_kept_for_the_one_to_come() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail", "Print")
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(3)
    settled = [fact for fact in started.facts if isinstance(fact, EffectsSettled)]
    assert sum(fact.unhandled for fact in settled) == 1
    async with running(world, handlers.effect("Print")):
        await until(lambda: len(handlers.calls) == 2, "the handler that came")
    assert handlers.numbers() == [0, 1]


async def test_a_cancelled_effect_is_tried_no_more_and_says_so() -> None:
    world, handlers = new_world(), Handlers()
    asked = await ask_for(world, "Mail", reply_to="counter:1")
    first = str(intent_id(asked.action_id, 0))
    hang = handlers.effect("Mail", lambda _: asyncio.sleep(60))
    async with running(world, hang) as started:
        await until(lambda: bool(handlers.calls), "the call")
        await ask_for(world, cancels=[first])
        started.runner.intents_grew()
        await until(lambda: started.attempts() == ["cancelled"], "the cancellation")
        await started.until_settled(4)
    (answer,) = await answers(world)
    assert (answer["status"], answer["maybe_done"]) == ("cancelled", True)


async def test_one_that_nobody_can_have_begun_was_certainly_not_done() -> None:
    world, handlers = new_world(), Handlers()
    slow = handlers.effect("Mail", lambda _: asyncio.sleep(0.2), concurrency=1)
    async with running(world, slow) as started:
        await until(lambda: started.runner._looks.log > 0, "the first look")
        asked = await ask_for(world, "Mail", "Mail", reply_to="counter:1")
        await ask_for(world, cancels=[str(intent_id(asked.action_id, 1))])
        await started.until_settled(4)
    answered = {answer["intent_id"]: answer for answer in await answers(world)}
    answer = answered[str(intent_id(asked.action_id, 1))]
    assert (answer["status"], answer["maybe_done"]) == ("cancelled", False)
    assert handlers.numbers() == [0]


async def test_one_whose_time_has_not_come_was_certainly_not_done() -> None:
    world, handlers = new_world(), Handlers()
    asked = await ask_for(world, "Mail", reply_to="counter:1", due_in_s=60)
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(2)
    await ask_for(world, cancels=[str(intent_id(asked.action_id, 0))])
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(4)
    (answer,) = await answers(world)
    assert (answer["status"], answer["maybe_done"]) == ("cancelled", False)


@pytest.mark.parametrize("parked", [True, False])
async def test_one_that_somebody_before_us_may_have_begun_may_be_done(parked: bool) -> None:  # noqa: FBT001 - a parameter of the test
    world, handlers = new_world(), Handlers()
    asked = await ask_for(world, "Mail", reply_to="counter:1")
    if parked:
        async with running(world) as started:  # which has no handler for it
            await started.until_settled(2)
    begun = Running(world, [handlers.effect("Mail", lambda _: asyncio.sleep(60))], None)
    await until(lambda: bool(handlers.calls), "the call")
    begun.task.cancel()  # as if the process had died: nobody is told of the attempt
    with pytest.raises(asyncio.CancelledError):
        await begun.task
    await ask_for(world, cancels=[str(intent_id(asked.action_id, 0))])
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(4)
    (answer,) = await answers(world)
    assert (answer["status"], answer["attempts"], answer["maybe_done"]) == ("cancelled", 0, True)
    assert len(handlers.calls) == 1


async def test_a_refusal_does_not_speak_for_an_attempt_before_it_that_left_no_word() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail", reply_to="counter:1")
    begun = Running(world, [handlers.effect("Mail", lambda _: asyncio.sleep(60))], None)
    await until(lambda: bool(handlers.calls), "the call")
    begun.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun.task

    async def refuse(_: EffectCall) -> None:
        raise EffectRefused("it was charged already")

    async with running(world, handlers.effect("Mail", refuse)) as started:
        await started.until_settled(3)
    (answer,) = await answers(world)
    assert (answer["status"], answer["maybe_done"]) == ("dead", True)


async def test_one_that_is_cancelled_before_its_first_step_ends_and_gives_its_slot_back() -> None:
    world, handlers, go = new_world(), Handlers(), asyncio.Event()
    asked = await ask_for(world, "Mail", "Mail", "Mail", reply_to="counter:1")

    async def first_waits(call: EffectCall) -> None:
        if call.payload["n"] == 0:
            await go.wait()

    async with running(world, handlers.effect("Mail", first_waits, concurrency=1)) as started:
        await until(lambda: len(handlers.calls) == 1, "the first call")
        go.set()
        for _ in range(1_000):
            if started.runner._hand.window.is_started(2):
                break
            await asyncio.sleep(0)
        # In the turn of the loop in which it was started: its task has made no step yet.
        assert await started.runner._cancellation.cancel(intent_id(asked.action_id, 1)) == 2
        await until(lambda: len(world._tables.partition(0).effects_ended) == 3, "all ends")
    assert handlers.numbers() == [0, 2]
    assert sorted(a["status"] for a in await answers(world)) == ["cancelled", "done", "done"]
    assert started.runner._world.slots.room("Mail") == 1


async def test_an_attempt_that_is_ended_before_its_first_step_gives_its_slot_back() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail")
    begun = Running(world, [handlers.effect("Mail", concurrency=1)], None)
    for _ in range(1_000):
        if begun.runner._attempts._tasks:
            break
        await asyncio.sleep(0)
    (attempt,) = begun.runner._attempts._tasks.values()
    attempt.cancel()
    begun.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun.task
    assert handlers.calls == []
    assert begun.runner._world.slots.room("Mail") == 1


async def test_an_effect_is_due_by_the_clock_of_the_database() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail", due_in_s=1_800)
    async with running(world, handlers.effect("Mail"), ahead=timedelta(hours=1)) as started:
        await started.until_settled(2)
        await asyncio.sleep(0.1)  # a call that came too early would have come by now
        assert handlers.calls == []
        world.clock.advance(timedelta(seconds=1_801))  # type: ignore[attr-defined]
        started.runner._looks.parked = 0.0  # rather than wait for the poll
        started.runner.intents_grew()
        await until(lambda: len(handlers.calls) == 1, "the call")


async def test_of_an_ordered_type_one_that_is_overdue_goes_before_those_behind_it() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail", due_in_s=-5)
    await ask_for(world, "Other", "Mail")
    async with running(world, handlers.effect("Mail", ordered=True)) as started:
        await until(lambda: len(handlers.calls) == 2, "both calls")
        await started.until_settled(4)
    assert handlers.numbers() == [0, 1]


@pytest.mark.parametrize("base_ms", [1, 0.1])
async def test_the_thousandth_attempt_waits_like_any_other(base_ms: float) -> None:
    effect = EffectType("Mail", Handlers().effect("Mail").handle, Backoff(2_000, base_ms, 9.0))
    source = LoggedIntent(
        1,
        SealedIntent(UUID(int=1), "Mail", "", b"{}"),
        UUID(int=2),
        None,
        0,
        new_world().clock(),
        "ask:1",
    )
    became = raised(
        OpenEffect(source), effect, 1_000, OSError("no"), CODEC, max, is_cancelled=False
    )
    assert isinstance(became, ParkedEffect)
    assert became.due_in_s == 0.009


async def test_a_cancellation_that_comes_too_late_changes_nothing() -> None:
    world, handlers = new_world(), Handlers()
    asked = await ask_for(world, "Mail", reply_to="counter:1")
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(3)
        await ask_for(world, cancels=[str(intent_id(asked.action_id, 0))])
        started.runner.intents_grew()
        await started.until_settled(4)
    (answer,) = await answers(world)
    assert answer["status"] == "done"


async def test_a_transactional_handler_writes_together_with_its_end() -> None:
    world, written = new_world(), []

    async def write(call: EffectCall, connection: Any) -> None:  # noqa: ANN401 - whatever a test says
        connection.append(lambda: written.append(call.intent_id))
        if call.attempt == 1:
            message = "after having written"
            raise ValueError(message)

    mail = EffectType("Mail", write, QUICK, transactional=True)
    asked = await ask_for(world, "Mail")
    async with running(world, mail) as started:
        await until(lambda: "done" in started.attempts() or advance(world), "the end")
    assert written == [intent_id(asked.action_id, 0)]


async def test_a_transaction_whose_reply_is_lost_is_not_done_twice() -> None:
    world, written = new_world(), []

    async def write(call: EffectCall, connection: Any) -> None:  # noqa: ANN401 - whatever a test says
        connection.append(lambda: written.append(call.intent_id))

    world.interrupt("effects.transaction", when="after")
    await ask_for(world, "Mail")
    async with running(world, EffectType("Mail", write, QUICK, transactional=True)) as started:
        await until(lambda: started.attempts() == ["failed"], "the lost reply")
        await started.until_settled(2)
        for _ in range(5):
            advance(world)
            started.runner.intents_grew()
            await asyncio.sleep(0.005)
    assert len(written) == 1


class Refusing:
    """Ends of effects of which a database refuses some."""

    def __init__(
        self, world: MemoryWorld, error: Exception, *, times: int = 1_000, parked: bool = False
    ) -> None:
        """Refuse so many calls with `error`; `parked`: only those that park something."""
        self._world = world
        self._error = error
        self._times = times
        self._parked = parked
        self.transaction = world.effects.transaction

    async def settle(self, *arguments: Any) -> bool:  # noqa: ANN401 - the port's
        """Settle, or refuse."""
        if self._times and (arguments[3] or not self._parked):
            self._times -= 1
            raise self._error
        return await self._world.effects.settle(*arguments)


async def test_after_an_error_that_nobody_expected_the_runner_begins_again() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail", "Mail")
    started = Running(world, [handlers.effect("Mail")], None)
    started.uses(ends=Refusing(world, DatabaseRefused("42501", "no permission"), times=1))
    with pytest.raises(DatabaseRefused):
        await started.task
    again = asyncio.create_task(started.runner.run())
    await started.until_settled(3)
    await ask_for(world, "Mail")
    started.runner.intents_grew()
    await started.until_settled(4)
    started.runner.stop()
    await again
    assert handlers.numbers() == [0, 1, 0, 1, 0], "at least once"


class RefusingLook:
    """Parked effects that cannot be looked for once, after somebody said so."""

    def __init__(self, world: MemoryWorld) -> None:
        """Refuse nothing yet."""
        self._world = world
        self.find = world.effects.find
        self.refuses = False

    async def due(self, *arguments: Any) -> Any:  # noqa: ANN401 - the port's
        """Look, or refuse."""
        if self.refuses:
            self.refuses = False
            raise DatabaseRefused("42501", "no permission")
        return await self._world.effects.due(*arguments)


async def test_what_had_not_become_durable_before_an_error_is_forgotten_with_it() -> None:
    world, handlers = new_world(), Handlers()
    await ask_for(world, "Mail")
    looks = RefusingLook(world)

    async def fail_once(_: EffectCall) -> None:
        if len(handlers.calls) == 1:
            looks.refuses, started.runner._looks.parked = True, 0.0  # before anything is settled
            message = "the first time"
            raise ValueError(message)

    started = Running(world, [handlers.effect("Mail", fail_once)], None)
    started.uses(parked=looks)
    with pytest.raises(DatabaseRefused):
        await started.task
    again = asyncio.create_task(started.runner.run())
    await started.until_settled(2)
    for _ in range(20):  # nothing of the failed attempt is left to be taken up again
        advance(world)
        started.runner._looks.parked = 0.0
        started.runner.intents_grew()
        await asyncio.sleep(0.002)
    started.runner.stop()
    await again
    assert [call.attempt for call in handlers.calls] == [1, 1]


async def test_an_effect_that_cannot_be_parked_is_dead_and_holds_nobody_up() -> None:
    world, handlers = new_world(), Handlers()

    async def fail_first(call: EffectCall) -> None:
        if call.payload["n"] == 0:
            message = "always"
            raise ValueError(message)

    await ask_for(world, "Mail", "Mail", reply_to="counter:1")
    started = Running(world, [handlers.effect("Mail", fail_first)], None)
    started.uses(ends=Refusing(world, ValueRefused("22008", "out of range"), parked=True))
    await until(lambda: len(world.effects.dead(0)) == 1, "the dead letter")
    assert {answer["status"] for answer in await answers(world)} == {"dead", "done"}
    started.runner.stop()
    await started.task


class Odd(BaseException):
    """No Exception."""


@pytest.mark.parametrize("odd", [Odd, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_whatever_a_handler_raises_ends_its_attempt_only(odd: type[BaseException]) -> None:
    world, handlers = new_world(), Handlers()

    async def be_odd(call: EffectCall) -> None:
        if call.payload["n"] == 0:
            raise odd

    await ask_for(world, "Mail", "Mail")
    async with running(world, handlers.effect("Mail", be_odd)) as started:
        await until(lambda: "dead" in started.attempts() or advance(world), "the last attempt")
        await started.until_settled(3)
    assert sorted(started.attempts()) == ["dead", "done", "failed", "failed"]


async def test_a_cancellation_is_not_passed_before_its_effect_has_ended() -> None:
    world, handlers = new_world(), Handlers()

    async def tidy_up(_: EffectCall) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    asked = await ask_for(world, "Other", reply_to="counter:1")
    async with running(world) as started:
        await started.until_settled(2)  # it is parked: nobody has a handler yet
    killed = Running(world, [handlers.effect("Other", tidy_up)], None)
    await until(lambda: bool(handlers.calls), "the call")
    await ask_for(world, cancels=[str(intent_id(asked.action_id, 0))])
    killed.runner.intents_grew()
    await until(lambda: bool(killed.runner._attempts._cancelling), "the cancellation")
    await asyncio.sleep(0.02)
    killed.task.cancel()
    for task in list(killed.runner._attempts._tasks.values()):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killed.task
    assert world._tables.positions["effects", "intent", 0, 0] == 2
    async with running(world, Handlers().effect("Other", lambda _: asyncio.sleep(60))) as started:
        await started.until_settled(4)
    (answer,) = await answers(world)
    assert answer["status"] == "cancelled"


async def test_a_stop_waits_no_longer_than_its_bound_for_who_swallows_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # R13, R10
    monkeypatch.setattr(runner, "STOP_WAIT_S", 0.01)
    monkeypatch.setattr(attempts, "CANCEL_WAIT_S", 0.02)
    world, handlers, go = new_world(), Handlers(), asyncio.Event()

    async def swallow(_: EffectCall) -> None:
        for _turn in range(100):  # cancellations: enough for anyone, and the test ends if it fails
            with suppress(asyncio.CancelledError):
                await go.wait()
                return

    asked = await ask_for(world, "Mail", "Mail", reply_to="counter:1")
    hangs = handlers.effect("Mail", swallow, concurrency=1)
    async with running(world, hangs) as started:
        await until(lambda: bool(handlers.calls), "the call")
    left = intent_id(asked.action_id, 0)
    assert [fact for fact in started.facts if isinstance(fact, EffectsLeft)] == [
        EffectsLeft(0, (f"Mail {left}",))
    ]
    assert started.runner._world.slots.room("Mail") == 0, "it is under way still"
    await ask_for(world, cancels=[str(left)])
    # Who comes next does not know how far it went.
    async with running(world, Handlers().effect("Mail")) as next_one:
        await until(lambda: len(world._tables.partition(0).effects_ended) == 2, "both ends")
    by_id = {answer["intent_id"]: answer for answer in await answers(world)}
    assert (by_id[str(left)]["status"], by_id[str(left)]["maybe_done"]) == ("cancelled", True)
    assert next_one.attempts() == ["done"]
    go.set()
    await until(lambda: started.runner._world.slots.room("Mail") == 1, "its slot")
    assert handlers.numbers() == [0], "who stopped starts nothing when a slot becomes free"
    assert len(await answers(world)) == 2, "an end that comes too late is no end"


async def test_the_cancellation_of_a_transactional_effect_that_ends_first_is_forgotten() -> None:
    world, go = new_world(), asyncio.Event()

    async def write(_: EffectCall, __: object) -> None:
        with suppress(asyncio.CancelledError):
            await go.wait()

    asked = await ask_for(world, "Mail", reply_to="counter:1")
    async with running(world, EffectType("Mail", write, QUICK, transactional=True)) as started:
        await until(lambda: started.runner._attempts._begun == {1}, "the call")
        await ask_for(world, cancels=[str(intent_id(asked.action_id, 0))])
        started.runner.intents_grew()
        await until(lambda: started.attempts() == ["done"], "the end")
        await started.until_settled(4)
        assert started.runner._hand._cancels == {}
    (answer,) = await answers(world)
    assert answer["status"] == "done"


async def test_after_a_lost_reply_an_ordered_lane_goes_straight_on() -> None:
    world, written = new_world(), []

    async def write(call: EffectCall, connection: Any) -> None:  # noqa: ANN401 - whatever a test says
        connection.append(lambda: written.append(call.payload["n"]))

    ship = EffectType("Ship", write, QUICK, ordered=True, transactional=True)
    world.interrupt("effects.transaction", when="after")
    await ask_for(world, "Ship")
    async with running(world, ship) as started:
        await until(lambda: started.attempts() == ["failed"], "the lost reply")
        await started.until_settled(2)
        await ask_for(world, "Other", "Ship")
        started.runner.intents_grew()
        await until(lambda: written == [0, 1], "the one behind it")
        await started.until_settled(4)
    parked = sum(fact.parked for fact in started.facts if isinstance(fact, EffectsSettled))
    assert parked == 2, "the first one, whose reply was lost, and the one that nobody handles"


async def test_after_a_refused_parking_an_ordered_lane_goes_straight_on() -> None:
    world, handlers = new_world(), Handlers()

    async def fail_first(call: EffectCall) -> None:
        if call.payload["n"] == 0:
            message = "always"
            raise ValueError(message)

    started = Running(world, [handlers.effect("Ship", fail_first, ordered=True)], None)
    started.uses(ends=Refusing(world, ValueRefused("22008", "out of range"), parked=True))
    await ask_for(world, "Ship")
    await until(lambda: len(world.effects.dead(0)) == 1, "the dead letter")
    await ask_for(world, "Other", "Ship")  # to be parked is refused, whoever asks
    started.runner.intents_grew()
    await until(lambda: started.attempts() == ["failed", "done"], "the one behind it")
    started.runner.stop()
    await started.task
    assert handlers.numbers() == [0, 1]


async def test_a_time_out_of_the_handlers_own_says_so() -> None:
    world, handlers = new_world(), Handlers()

    async def ask(_: EffectCall) -> None:
        message = "the gateway is slow"
        raise TimeoutError(message)

    once = Backoff(1, 1, 2)
    await ask_for(world, "Mail", reply_to="counter:1")
    async with running(world, handlers.effect("Mail", ask, backoff=once)) as started:
        await until(lambda: started.attempts() == ["dead"], "the end")
    (answer,) = await answers(world)
    assert answer["detail"].endswith("TimeoutError: the gateway is slow\n")
    assert "no end within" not in answer["detail"]


async def test_what_is_parked_behind_its_lane_stays_as_it_is_and_follows_at_once() -> None:
    world, handlers, go = new_world(), Handlers(), asyncio.Event()

    async def do(call: EffectCall) -> None:
        if call.payload["n"] == 0:
            message = "the first one"
            raise ValueError(message)
        await go.wait()

    ship = handlers.effect("Ship", do, ordered=True, backoff=Backoff(3, 60_000, 60_000))
    await ask_for(world, "Ship")
    async with running(world, ship) as started:
        await started.until_settled(2)
    ((_, row),) = world._tables.partition(0).effects.items()
    # Of its lane another one is under way when its time comes: it was put there by another owner.
    started = Running(world, [ship], None)
    started.uses(log=NothingWaits(world))
    await ask_for(world, "Other", "Ship")
    await until(lambda: handlers.numbers() == [0, 1], "the other one")
    world.clock.advance(timedelta(minutes=2))  # type: ignore[attr-defined]
    started.runner._looks.parked = 0.0
    started.runner.intents_grew()
    await until(lambda: 1 in started.runner._hand.offsets, "it was given out")
    assert world._tables.partition(0).effects[1] is row, "its error and its attempts as well"
    assert handlers.numbers() == [0, 1]
    go.set()
    await until(lambda: handlers.numbers() == [0, 1, 0], "its second attempt")
    started.runner.stop()
    await started.task


class NothingWaits:
    """A log of effects that does not say what was parked before."""

    def __init__(self, world: MemoryWorld) -> None:
        """Read from `world`."""
        self._world = world
        self.read = world.effects.read

    async def begin(self, partition: int, _: object) -> EffectsBegun:
        """Say where the effects stand."""
        return replace(await self._world.effects.begin(partition, []), waiting=())


async def test_closing_costs_nobody_an_attempt() -> None:
    world, handlers = new_world(), Handlers()

    async def fail_at_the_end(_: EffectCall) -> None:
        await asyncio.sleep(0.05)
        message = "the bridge is closing"
        raise RuntimeError(message)

    await ask_for(world, "Mail", reply_to="counter:1")
    once = handlers.effect("Mail", fail_at_the_end, backoff=Backoff(1, 1, 2))
    async with running(world, once):
        await until(lambda: bool(handlers.calls), "the call")
    assert await answers(world) == []
    async with running(world, handlers.effect("Mail")) as started:
        await started.until_settled(3)
    (answer,) = await answers(world)
    assert (answer["status"], answer["attempts"]) == ("done", 1)


async def test_a_transactional_handler_that_loses_its_connection_each_time_ends_dead() -> None:
    world, calls = new_world(), []

    async def lose(call: EffectCall, _: object) -> None:
        calls.append(call.attempt)
        raise DatabaseUnavailable("the connection is lost")

    await ask_for(world, "Mail", reply_to="counter:1")
    async with running(world, EffectType("Mail", lose, QUICK, transactional=True)) as started:
        await until(lambda: advance(world) or started.attempts()[-1:] == ["dead"], "the end")
    assert calls == [1, 2, 3]


async def test_a_transaction_that_is_lost_each_time_after_the_call_ends_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, calls = new_world(), []
    transaction = world.effects.transaction

    @asynccontextmanager
    async def lost(partition: int, owner: UUID | None) -> AsyncIterator[object]:
        async with transaction(partition, owner) as opened:
            yield opened
            raise DatabaseUnavailable("the connection is lost")

    async def write(call: EffectCall, _: object) -> None:
        calls.append(call.attempt)

    monkeypatch.setattr(world.effects, "transaction", lost)
    await ask_for(world, "Mail", reply_to="counter:1")
    async with running(world, EffectType("Mail", write, QUICK, transactional=True)) as started:
        await until(lambda: advance(world) or started.attempts()[-1:] == ["dead"], "the end")
    assert calls == [1, 2, 3]


async def test_an_outage_is_no_attempt_of_a_transactional_handler() -> None:
    world, written = new_world(), []

    async def write(call: EffectCall, connection: Any) -> None:  # noqa: ANN401 - whatever a test says
        connection.append(lambda: written.append(call.attempt))

    world.interrupt("effects.transaction", when="before", times=5)
    await ask_for(world, "Mail")
    async with running(world, EffectType("Mail", write, QUICK, transactional=True)) as started:
        await until(lambda: bool(written) or advance(world), "the end")
    assert written == [1]
    assert started.attempts() == ["failed"] * 5 + ["done"]


async def test_who_is_not_the_owner_any_more_stops_and_ends_nothing() -> None:  # R12
    world, handlers = new_world(), Handlers()
    mine, theirs = workers.OWNER, workers.RIVAL
    assert await world.leases.acquire(mine, "me", NOT_OVER, [0]) == [0]
    await ask_for(world, "Mail", reply_to="counter:1")
    begun = asyncio.Event()

    async def go_on(_: EffectCall) -> None:
        begun.set()
        await asyncio.sleep(0.02)

    started = Running(world, [handlers.effect("Mail", go_on)], mine)
    await begun.wait()
    world.clock.advance(timedelta(seconds=10))  # type: ignore[attr-defined]
    assert await world.leases.acquire(theirs, "they", NOT_OVER, [0]) == [0]
    async with asyncio.timeout(5):
        await started.task
    assert await answers(world) == []
    assert world._tables.positions["effects", "intent", 0, 0] == 1


async def test_intents_that_were_cut_off_before_they_were_looked_at_stop_the_loop() -> None:
    world = MemoryWorld(clock=SettableClock(), partitions=1, segment_entries=2)
    await ask_for(world, "Mail", "Mail")
    world._tables.positions["dispatcher", "intent", 0, 0] = 3
    world._tables.positions["effects", "intent", 0, 0] = 3
    assert await world.segments.drop_segments("intent", 0) == 1
    world._tables.positions["effects", "intent", 0, 0] = 1
    with pytest.raises(BrokenPromise, match="begin at 3"):
        await Running(world, [], None).task
