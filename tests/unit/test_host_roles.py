"""Hosts that do some of the roles: together they do all, and each partition's once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pytest

from omninode_bridge import App, EffectCall
from omninode_bridge.core.observation import (
    EffectsSettled,
    FollowingChanged,
    IntentsDispatched,
    Observation,
    ProjectionApplied,
    TimersFired,
)
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.roles import FOLLOWING, Following, read_roles
from omninode_bridge.host import PartitionHost, apart, role_loops
from omninode_bridge.ports import Wake
from omninode_bridge.services import timer_loop
from omninode_bridge.testing import MemoryWorld, SettableClock
from omninode_bridge.testing.bus import MemoryBus
from tests.bridges import until
from tests.hosts import bus_of
from tests.hosts import hosted as hosted_on
from tests.unit.workers import NewIds, action

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from omninode_bridge.core.effect_types import EffectType
    from omninode_bridge.testing.interruptions import When

PARTITIONS: Final = 2
LEASE: Final = timedelta(milliseconds=200)
KEYS: Final = ["counter:1", "counter:2", "counter:3", "counter:5"]
Did = EffectsSettled | IntentsDispatched | ProjectionApplied | TimersFired
EVERYBODY: Final = ("reducer", "materializer", "orchestrator", "effects")


class Mail:
    """An effect, and for which actions it was carried out."""

    def __init__(self) -> None:
        self.sent: Counter[UUID] = Counter()
        self.hold = asyncio.Event()
        self.hold.set()
        app = App("mail")
        app.effect("SendMail")(self._send)
        self.types: dict[str, EffectType] = dict(app.effect_types())

    async def _send(self, call: EffectCall) -> None:
        self.sent[call.action_id] += 1
        await self.hold.wait()


class Hosts(AsyncExitStack):
    """Hosts on one world, each with its roles."""

    def __init__(self, mail: Mail | None = None) -> None:
        super().__init__()
        self.clock = SettableClock()
        self.world = MemoryWorld(clock=self.clock, partitions=PARTITIONS, lease=LEASE)
        self.mail = mail or Mail()
        self.seen: dict[str, list[Observation]] = {}
        self.bus = MemoryBus()

    def new(self, roles: str, name: str = "") -> PartitionHost:
        """Return a host that has not begun."""
        seen = self.seen.setdefault(name or roles, [])
        others: dict[str, Any] = {
            "new_id": NewIds(1_000_000 * (1 + len(self.seen))),
            "roles": read_roles(roles.split(",")),
            "lease": LEASE,
            "effect_types": self.mail.types,
            "observe": seen.append,
        }
        if "relay" in roles:
            others["bus"] = bus_of(self.bus, self.world)
        return PartitionHost(hosted_on(self.world, **others))

    async def start(self, *roles: str) -> list[PartitionHost]:
        """Start a host for each."""
        return [await self.enter_async_context(self.new(each)) for each in roles]

    def did(self, name: str, *kinds: type[Did]) -> set[int]:
        """Return for which partitions a host has told a fact of these kinds."""
        return {each.partition for each in self.seen[name] if isinstance(each, kinds)}

    def follows(self, name: str) -> set[tuple[int, str]]:
        """Return what a host does for partitions that are not its own."""
        now: set[tuple[int, str]] = set()
        for each in self.seen[name]:
            if isinstance(each, FollowingChanged):
                duty = (each.partition, each.role)
                (now.add if each.change == "begun" else now.discard)(duty)
        return now


async def submitted(host: PartitionHost, *actions: Any) -> None:  # noqa: ANN401
    futures = [await host.submit(each) for each in actions]
    async with asyncio.timeout(20):
        for outcome in await asyncio.gather(*futures):
            assert outcome.committed().version >= 1


@pytest.fixture(autouse=True)
def _two_partitions() -> None:
    assert {partition_of(key, PARTITIONS) for key in KEYS} == {0, 1}


async def test_every_role_in_a_process_of_its_own_does_its_part() -> None:
    async with Hosts() as hosts:
        reducer, *_ = await hosts.start("relay,reducer", "materializer", "orchestrator", "effects")
        hosts.seen["the relay"] = []
        await hosts.enter_async_context(hosts.new("relay", "the relay"))
        payload = {"passes_on_to": KEYS[1:], "mail": "SendMail"}
        asked = [action(key, payload=payload) for key in KEYS]
        await submitted(reducer, *asked)
        await until(lambda: set(hosts.mail.sent) == {each.action_id for each in asked}, "mail")
        await until(lambda: [v(hosts, key) for key in KEYS] == [1, 5, 5, 5], "follow-ups")
    assert set(hosts.mail.sent.values()) == {1}
    assert hosts.did("materializer", ProjectionApplied) == {0, 1}
    assert hosts.did("orchestrator", IntentsDispatched) == {0, 1}
    assert hosts.did("effects", EffectsSettled) == {0, 1}
    assert not hosts.did("relay,reducer", ProjectionApplied, IntentsDispatched, EffectsSettled)
    # The owner relays by itself, as it has the role.
    assert sum(len(hosts.bus.sent["state-committed", n]) for n in range(2)) == 16
    assert hosts.follows("the relay") == set()


async def test_a_timer_fires_where_the_orchestrator_is() -> None:
    async with Hosts() as hosts:
        reducer, _ = await hosts.start("reducer", "orchestrator")
        at = hosts.clock() + timedelta(seconds=5)
        future = await reducer.submit(action(KEYS[0], due_at=at))
        hosts.clock.advance(timedelta(seconds=6))
        async with asyncio.timeout(10):
            assert (await future).committed().version == 1
    assert hosts.did("orchestrator", TimersFired) == {partition_of(KEYS[0], PARTITIONS)}


async def test_a_timer_that_was_set_elsewhere_is_seen_without_polling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timer_loop, "POLL_S", 30.0)
    async with Hosts() as hosts:
        reducer, _ = await hosts.start("reducer", "orchestrator")
        await asyncio.sleep(2 * LEASE.total_seconds())  # the timers were looked at: there are none
        at = hosts.clock() + timedelta(seconds=0.2)
        future = await reducer.submit(action(KEYS[0], due_at=at))
        hosts.clock.advance(timedelta(seconds=1))
        async with asyncio.timeout(10):
            assert (await future).committed().version == 1


async def test_two_of_a_role_share_the_partitions_and_one_goes_on_alone() -> None:
    async with Hosts() as hosts:
        (reducer,) = await hosts.start("reducer")
        first = hosts.new("materializer", "first")
        await hosts.enter_async_context(first)
        await until(lambda: len(hosts.follows("first")) == 2, "all")
        second = hosts.new("materializer", "second")
        async with second:
            await until(lambda: hosts.follows("second") == {(1, "materializer")}, "half")
            await until(lambda: hosts.follows("first") == {(0, "materializer")}, "the other half")
            await submitted(reducer, *(action(key) for key in KEYS))
            await until(lambda: all(hosts.world.projection(key) for key in KEYS), "projected")
        await until(lambda: len(hosts.follows("first")) == 2, "all again")
        await submitted(reducer, *(action(key) for key in KEYS))
        await until(lambda: {v(hosts, key) for key in KEYS} == {2}, "projected")


def v(hosts: Hosts, key: str) -> int:
    """Return the projected version of a key."""
    projected = hosts.world.projection(key)
    return 0 if projected is None else projected.version


async def test_an_owner_with_the_role_takes_it_back() -> None:
    async with Hosts() as hosts:
        reducer = hosts.new("reducer")
        async with reducer:
            await hosts.start(",".join(EVERYBODY[1:]))
            followers = ",".join(EVERYBODY[1:])
            await until(lambda: len(hosts.follows(followers)) == 6, "all that follows")
            owner = hosts.new(",".join(EVERYBODY), "owner")
            await hosts.enter_async_context(owner)
            # The newcomer has one of the two partitions; it does all of it.
            await until(lambda: len(hosts.follows(followers)) == 3, "what is left")
            await submitted(owner, *(action(key, payload={"mail": "SendMail"}) for key in KEYS))
            await until(lambda: len(hosts.mail.sent) == len(KEYS), "mail")
    assert hosts.did("owner", EffectsSettled)
    assert hosts.did(followers, EffectsSettled)
    assert not hosts.did("owner", EffectsSettled) & hosts.did(followers, EffectsSettled)
    assert set(hosts.mail.sent.values()) == {1}


async def test_effects_are_handed_over_when_those_under_way_have_ended() -> None:
    async with Hosts() as hosts:
        (reducer,) = await hosts.start("reducer")
        await hosts.enter_async_context(hosts.new("effects", "first"))
        await until(lambda: len(hosts.follows("first")) == 2, "the effects")
        hosts.mail.hold.clear()
        asked = [action(key, payload={"mail": "SendMail"}) for key in KEYS]
        await submitted(reducer, *asked)
        await until(lambda: len(hosts.mail.sent) == len(KEYS), "under way")
        await hosts.enter_async_context(hosts.new("effects", "second"))
        await until(lambda: (1, "effects") in hosts.follows("second"), "the share of the second")
        await asyncio.sleep(5 * role_loops.TAKE_S)
        assert not hosts.did("second", EffectsSettled)
        hosts.mail.hold.set()
        await until(lambda: hosts.follows("first") == {(0, "effects")}, "the first lets go")
        more = [action(key, payload={"mail": "SendMail"}) for key in KEYS]
        await submitted(reducer, *more)
        await until(lambda: len(hosts.mail.sent) == 2 * len(KEYS), "all sent")
        await until(lambda: hosts.did("second", EffectsSettled) == {1}, "the second")
    assert set(hosts.mail.sent.values()) == {1}, "nothing was carried out twice"


async def test_what_has_not_ended_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Hosts() as hosts:
        (reducer,) = await hosts.start("reducer")
        carrier = hosts.new("effects", "carrier")
        await hosts.enter_async_context(carrier)
        await until(lambda: len(hosts.follows("carrier")) == 2, "the effects")
        hosts.mail.hold.clear()
        asked = action(KEYS[0], payload={"mail": "SendMail"})
        await submitted(reducer, asked)
        await until(lambda: hosts.mail.sent[asked.action_id] == 1, "under way")
        # For a moment it believes that another one does it.
        monkeypatch.setattr(apart, "follower", lambda *_: None)
        await until(lambda: not carrier._apart._loops, "let go")
        monkeypatch.undo()
        await asyncio.sleep(3 * LEASE.total_seconds())
        assert hosts.mail.sent[asked.action_id] == 1
        hosts.mail.hold.set()
        await until(lambda: len(hosts.follows("carrier")) == 2, "begun again")
        await until(lambda: bool(hosts.did("carrier", EffectsSettled)), "settled")
    assert hosts.mail.sent[asked.action_id] == 1
    assert hosts.follows("carrier") == set()


async def test_effects_of_one_that_is_gone_are_taken_and_its_word_comes_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Hosts() as hosts:
        (reducer,) = await hosts.start("reducer")
        stuck = hosts.new("effects", "stuck")
        await hosts.enter_async_context(stuck)
        await until(lambda: len(hosts.follows("stuck")) == 2, "the effects")
        hosts.mail.hold.clear()
        asked = action(KEYS[0], payload={"mail": "SendMail"})
        await submitted(reducer, asked)
        await until(lambda: hosts.mail.sent[asked.action_id] == 1, "under way")
        # Its process is paused: nobody sees it any more, and its handler ends later.
        beats = hosts.world.members.beat
        monkeypatch.setattr(hosts.world.members, "beat", never(stuck, hosts.world))
        hosts.world._tables.members.pop(stuck._member.member)
        await hosts.enter_async_context(hosts.new("effects", "other"))
        await until(lambda: hosts.mail.sent[asked.action_id] == 2, "tried by the other")
        hosts.mail.hold.set()
        await until(lambda: bool(hosts.did("other", EffectsSettled)), "settled by the other")
        assert not hosts.did("stuck", EffectsSettled)
        monkeypatch.setattr(hosts.world.members, "beat", beats)
    ended = hosts.world._tables.partition(partition_of(KEYS[0], PARTITIONS)).effects_ended
    assert [end.attempts for end in ended.values()] == [1]


def never(host: PartitionHost, world: MemoryWorld) -> Any:  # noqa: ANN401
    """Return a `beat` that never returns for one host."""
    beat = world.members.beat

    async def instead(member: Any, lasts: timedelta) -> Any:  # noqa: ANN401
        if member.member == host._member.member:
            await asyncio.sleep(30)
        return await beat(member, lasts)

    return instead


async def test_followers_elsewhere_are_woken_and_need_not_poll() -> None:
    async with Hosts() as hosts:
        reducer, _ = await hosts.start("reducer", "materializer")
        heard: list[Wake] = []
        listening = asyncio.create_task(hosts.world.wakes.hear(heard.append))
        await until(lambda: hosts.follows("materializer") != set(), "the materializer")
        await asyncio.sleep(LEASE.total_seconds())  # until the owner has seen it, too
        await submitted(reducer, action(KEYS[0]))
        await until(lambda: v(hosts, KEYS[0]) == 1, "projected")
        assert Wake("commit", partition_of(KEYS[0], PARTITIONS)) in heard
        listening.cancel()


async def test_where_all_do_all_nothing_is_done_apart_and_nobody_is_woken_for_it() -> None:
    async with Hosts() as hosts:
        everybody = ",".join(EVERYBODY)
        one = await hosts.enter_async_context(hosts.new(everybody, "one"))
        await hosts.enter_async_context(hosts.new(everybody, "two"))
        heard: list[Wake] = []
        listening = asyncio.create_task(hosts.world.wakes.hear(heard.append))
        await asyncio.sleep(LEASE.total_seconds())
        await submitted(one, *(action(key) for key in KEYS))
        await until(lambda: {v(hosts, key) for key in KEYS} == {1}, "projected")
        assert not any(wake.of == "commit" for wake in heard)
        listening.cancel()
    assert hosts.follows("one") == hosts.follows("two") == set()
    changes = [e for told in hosts.seen.values() for e in told if isinstance(e, FollowingChanged)]
    assert changes == []


@pytest.mark.parametrize("role", [role for role in FOLLOWING if role != "relay"])
async def test_what_nobody_did_is_done_when_somebody_comes(role: Following) -> None:
    async with Hosts() as hosts:
        others = ",".join(each for each in EVERYBODY if each != role)
        reducer, *_ = await hosts.start(others)
        asked = [action(key, payload={"mail": "SendMail", "passes_on_to": KEYS}) for key in KEYS]
        await submitted(reducer, *asked)
        await hosts.start(role)
        await until(lambda: {v(hosts, key) for key in KEYS} == {5}, "projected and dispatched")
        await until(lambda: len(hosts.mail.sent) == len(KEYS), "mail")


@asynccontextmanager
async def ticking(clock: SettableClock) -> AsyncIterator[None]:
    """Let a world's clock go on, for the length of the block."""

    async def tick() -> None:
        last = monotonic()
        while True:
            await asyncio.sleep(0.02)
            now = monotonic()
            clock.advance(timedelta(seconds=now - last))
            last = now

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()


async def test_who_stops_properly_ends_its_handlers_and_is_replaced_in_the_rest_at_once() -> None:
    others = "orchestrator,effects"
    async with Hosts() as hosts, ticking(hosts.clock):
        (reducer,) = await hosts.start("reducer")
        first = hosts.new(others, "first")
        await first.__aenter__()
        await hosts.enter_async_context(hosts.new(others, "second"))
        await until(lambda: len(hosts.follows("second")) == 2, "half of it")
        await until(lambda: len(hosts.follows("first")) == 2, "the other half")
        await asyncio.sleep(2 * role_loops.TAKE_S)
        hosts.mail.hold.clear()
        await submitted(reducer, *(action(key, payload={"mail": "SendMail"}) for key in KEYS))
        await until(lambda: len(hosts.mail.sent) == len(KEYS), "under way")
        stopping = asyncio.create_task(first.__aexit__())
        await until(lambda: (0, "orchestrator") in hosts.follows("second"), "replaced")
        assert not stopping.done()
        await asyncio.sleep(5 * LEASE.total_seconds())
        assert set(hosts.mail.sent.values()) == {1}, "taken from handlers that still run"
        hosts.mail.hold.set()
        await stopping
        await submitted(reducer, *(action(key, payload={"mail": "SendMail"}) for key in KEYS))
        await until(lambda: len(hosts.mail.sent) == 2 * len(KEYS), "taken when they had ended")
    assert set(hosts.mail.sent.values()) == {1}


async def test_an_owner_that_stops_properly_keeps_its_partitions_until_its_handlers_end() -> None:
    everybody = ",".join(EVERYBODY)
    async with Hosts() as hosts, ticking(hosts.clock):
        first = hosts.new(everybody, "first")
        await first.__aenter__()
        second = await hosts.enter_async_context(hosts.new(everybody, "second"))
        await until(lambda: len(second._workers) == 1, "shared")
        hosts.mail.hold.clear()
        await submitted(second, *(action(key, payload={"mail": "SendMail"}) for key in KEYS))
        await until(lambda: len(hosts.mail.sent) == len(KEYS), "under way")
        stopping = asyncio.create_task(first.__aexit__())
        await asyncio.sleep(5 * LEASE.total_seconds())
        assert set(hosts.mail.sent.values()) == {1}
        hosts.mail.hold.set()
        await stopping
        await until(lambda: len(second._workers) == 2, "taken over")
        await submitted(second, *(action(key) for key in KEYS))
    assert set(hosts.mail.sent.values()) == {1}


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_effects_are_let_go_although_a_reply_is_lost(lost: When) -> None:
    async with Hosts() as hosts:
        (reducer,) = await hosts.start("reducer")
        await hosts.enter_async_context(hosts.new("effects", "first"))
        await until(lambda: len(hosts.follows("first")) == 2, "the effects")
        await asyncio.sleep(2 * role_loops.TAKE_S)
        hosts.world.interrupt("claims.leave", when=lost, times=2)
        await hosts.enter_async_context(hosts.new("effects", "second"))
        await until(lambda: (1, "effects") in hosts.follows("second"), "the share of the second")
        await submitted(reducer, *(action(key, payload={"mail": "SendMail"}) for key in KEYS))
        await until(lambda: len(hosts.mail.sent) == len(KEYS), "all sent")
    assert set(hosts.mail.sent.values()) == {1}


async def test_effects_are_not_taken_from_an_owner_that_carries_them_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Hosts() as hosts:
        take, late = hosts.world.claims.take, asyncio.Event()

        async def slow(partition: int, owner: UUID, member: UUID, *, apart: bool) -> bool:
            if apart:
                await late.wait()
            return await take(partition, owner, member, apart=apart)

        monkeypatch.setattr(hosts.world.claims, "take", slow)
        # It begins while nobody owns the partitions; its claim arrives when somebody does.
        await hosts.enter_async_context(hosts.new("effects", "apart"))
        await until(lambda: len(hosts.follows("apart")) == 2, "the effects")
        owner = await hosts.enter_async_context(hosts.new(",".join(EVERYBODY), "owner"))
        hosts.mail.hold.clear()
        await submitted(owner, *(action(key, payload={"mail": "SendMail"}) for key in KEYS))
        await until(lambda: len(hosts.mail.sent) == len(KEYS), "under way")
        late.set()
        await asyncio.sleep(5 * role_loops.TAKE_S)
        hosts.mail.hold.set()
        await until(lambda: hosts.did("owner", EffectsSettled) == {0, 1}, "settled")
    assert set(hosts.mail.sent.values()) == {1}


async def test_an_orchestrator_that_slept_while_intents_were_cut_off_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Hosts() as hosts:
        hosts.world = MemoryWorld(
            clock=hosts.clock, partitions=PARTITIONS, lease=LEASE, segment_entries=4
        )
        (reducer,) = await hosts.start("reducer,materializer,effects")
        sleepy = await hosts.enter_async_context(hosts.new("orchestrator", "sleepy"))
        await until(lambda: len(hosts.follows("sleepy")) == 2, "the orchestrator")
        passed_on = [action(key, payload={"passes_on_to": KEYS}) for key in KEYS]
        await submitted(reducer, *passed_on)
        await until(lambda: {v(hosts, key) for key in KEYS} == {5}, "dispatched")
        read, awake = hosts.world.intents.read, asyncio.Event()
        theirs = {task for loops in sleepy._apart._loops.values() for task in loops._tasks}

        async def asleep(partition: int, position: int, limit: int) -> Any:  # noqa: ANN401
            if asyncio.current_task() in theirs:
                await awake.wait()
            return await read(partition, position, limit)

        monkeypatch.setattr(hosts.world.intents, "read", asleep)
        other = hosts.new("orchestrator", "other")
        for partition in range(PARTITIONS):
            other._apart._begin(partition, "orchestrator")
        for _ in range(4):
            await submitted(reducer, *(action(key, payload={"passes_on_to": KEYS}) for key in KEYS))
        await until(lambda: {v(hosts, key) for key in KEYS} == {25}, "dispatched by the other")
        await other._apart.end()
        dropped = [await hosts.world.segments.drop_segments("intent", n) for n in range(PARTITIONS)]
        assert all(dropped), "nothing was cut off: no test"
        awake.set()
        await submitted(reducer, *(action(key, payload={"passes_on_to": KEYS}) for key in KEYS))
        await until(lambda: {v(hosts, key) for key in KEYS} == {30}, "dispatched by who slept")
        assert sleepy.failures == []


async def test_a_carrier_of_effects_that_slept_while_intents_were_cut_off_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Hosts() as hosts:
        hosts.world = MemoryWorld(
            clock=hosts.clock, partitions=PARTITIONS, lease=LEASE, segment_entries=4
        )
        (reducer,) = await hosts.start("reducer,materializer,orchestrator")
        sleepy = await hosts.enter_async_context(hosts.new("effects", "sleepy"))
        await until(lambda: len(hosts.follows("sleepy")) == 2, "the effects")
        mailed = [action(key, payload={"mail": "SendMail"}) for key in KEYS]
        await submitted(reducer, *mailed)
        await until(lambda: len(hosts.mail.sent) == len(KEYS), "sent")
        read, awake = hosts.world.effects.read, asyncio.Event()
        theirs = {task for loops in sleepy._apart._loops.values() for task in loops._tasks}

        async def asleep(partition: int, position: int, limit: int) -> Any:  # noqa: ANN401
            if asyncio.current_task() in theirs:
                await awake.wait()
            return await read(partition, position, limit)

        monkeypatch.setattr(hosts.world.effects, "read", asleep)
        for partition in range(PARTITIONS):  # as if it were not seen any more
            hosts.world._tables.partition(partition).effects_claim = None
        other = hosts.new("effects", "other")
        for partition in range(PARTITIONS):
            other._apart._begin(partition, "effects")
        for _ in range(6):
            await submitted(reducer, *(action(key, payload={"mail": "SendMail"}) for key in KEYS))
        await until(lambda: len(hosts.mail.sent) == 7 * len(KEYS), "sent by the other")
        await until(lambda: hosts.did("other", EffectsSettled) == {0, 1}, "settled")
        reducer.settle()
        await other._apart.end()
        await asyncio.sleep(1)  # the dispatcher, too, says how far it is
        dropped = [await hosts.world.segments.drop_segments("intent", n) for n in range(PARTITIONS)]
        assert all(dropped), "nothing was cut off: no test"
        awake.set()
        await submitted(reducer, *(action(key, payload={"mail": "SendMail"}) for key in KEYS))
        await until(lambda: len(hosts.mail.sent) == 8 * len(KEYS), "sent by who slept")
        assert sleepy.failures == []
    assert set(hosts.mail.sent.values()) == {1}
