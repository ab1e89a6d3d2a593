"""Every role in a process of its own, by Kafka: killed, restarted, and still each action once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
from collections import Counter
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest

from omninode_bridge import Bridge
from tests.bridges import fetch
from tests.faults.orders import order
from tests.faults.test_kill_orders import require_sums
from tests.integration.kafka.roles import RoleProcess, RoleProcesses
from tests.integration.kafka.traded import traded
from tests.kafka_users import ACTION, DEAD_LETTER, STATE_COMMITTED, KafkaUser, check_repeats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from omninode_bridge import KafkaPlace
    from tests.kafka_servers import KafkaServer

KEYS: Final = [f"counter:{n}" for n in range(20)]
EACH_ROLE: Final = (
    "reducer --persist over-bus",
    "store-effect",
    "materializer",
    "orchestrator",
    "effects",
    "relay",
)
TWO_OF_SOME: Final = (*EACH_ROLE, "reducer --persist over-bus", "store-effect")
RUNS_AT_ONCE: Final = 4
STOP_GAP_S: Final = 1.0
"""So long an ask may wait when a role stops properly; on a busy machine one of them may be late."""

LATE_GAP_S: Final = 4.0
KILL_GAP_S: Final = 6.0
"""As `STOP_GAP_S`, when one is killed or paused."""

GARBAGE_EVERY: Final = 10
TWICE_EVERY: Final = 7


class Load:
    """What is asked by Kafka and by a bridge that only asks, until told to end."""

    def __init__(self, bridge: Bridge, user: KafkaUser) -> None:
        self._bridge = bridge
        self._user = user
        self._numbers = count()
        self.amounts: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.garbage = 0
        self.runs = 0
        self.acknowledged = 0
        self.longest_gap_s = 0.0
        self._ending = False

    async def during(self, work: Callable[[], Awaitable[None]], runs: int = RUNS_AT_ONCE) -> None:
        """Ask as long as `work` is done; return when all that was asked is answered."""
        async with asyncio.TaskGroup() as group:
            for asker in (self._by_kafka, self._by_bridge, *[self._by_runs] * runs):
                group.create_task(asker())
            try:
                await work()
            finally:
                self._ending = True
        await self._user.flush(60)

    def _next(self) -> tuple[str, dict[str, Any]]:
        amount = next(self._numbers)
        key = KEYS[amount % len(KEYS)]
        self.asked[key] += 1
        self.amounts[key] += amount
        return key, {"amount": amount}

    async def _by_kafka(self) -> None:
        """Write actions, some of them twice, some to the wrong partition; and garbage."""
        for number in count():
            if self._ending:
                return
            key, payload = self._next()
            partition = number % 4 if number % 5 == 0 else -1
            self._user.ask(key, "Counted", payload, partition=partition)
            if number % TWICE_EVERY == 0:
                self._user.ask_again()
            if number % GARBAGE_EVERY == 0:
                self._user.write(ACTION, b"counter:1", b"\x00no json", [])
                self.garbage += 1
            await asyncio.sleep(0.01)

    async def _by_bridge(self) -> None:
        """Submit, and wait for the answer; one at a time, so that gaps are seen."""
        while not self._ending:
            key, payload = self._next()
            began, action_id = monotonic(), uuid4()
            await self._bridge.submit(key, "Counted", payload, action_id=action_id, timeout=60)
            self.longest_gap_s = max(self.longest_gap_s, monotonic() - began)
            self.acknowledged += 1
            await asyncio.sleep(0.01)

    async def _by_runs(self) -> None:
        """Fulfil orders."""
        while not self._ending:
            number, self.runs = self.runs, self.runs + 1
            await self._bridge.run(
                "order-fulfilment", order(number), workflow_id=str(number), timeout=120
            )


def independent_fold(events: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return count and total of each counter, by a fold of its own; versions have no gap."""
    found: dict[str, tuple[int, int]] = {}
    by_key = sorted(events, key=lambda event: (event["workflow_key"], event["version"]))
    for event in by_key:
        key = event["workflow_key"]
        if not key.startswith("counter:"):
            continue
        number, total = found.get(key, (0, 0))
        assert event["version"] == number + 1, f"{key} has no version {number + 1}"
        found[key] = number + 1, total + event["action"]["payload"]["amount"]
        state = {"count": found[key][0], "total": found[key][1]}
        canonical = json.dumps(state, separators=(",", ":"), sort_keys=True).encode()
        assert event["result_hash"] == hashlib.sha256(canonical).hexdigest()
    return found


async def require_once(
    bridge: Bridge, database_url: str, user: KafkaUser, load: Load, folder: Path
) -> None:
    """Assert that what was asked was applied once, by the database, by `verify`, and by Kafka."""
    ((committed,),) = await fetch(
        database_url, "SELECT count(DISTINCT action_id) FROM event_log_state_committed"
    )
    found = await user.read(STATE_COMMITTED, lambda found: len(check_repeats(found)) >= committed)
    events = list(check_repeats(found).values())
    assert len({event["action_id"] for event in events}) == len(events) == committed
    folded = independent_fold(events)
    assert folded == {key: (load.asked[key], load.amounts[key]) for key in load.asked}
    letters = await user.read(DEAD_LETTER, lambda found: places(found) >= load.garbage)
    assert places(letters) == load.garbage
    statuses = await require_sums(bridge, folder, load.runs)
    assert statuses["COMPLETED"] > 0
    assert (await bridge.verify()).mismatches == []
    assert load.acknowledged > 0


def places(letters: list[Any]) -> int:
    """Return how many messages were put aside, repeats left out."""
    said = ("dead-letter-topic", "dead-letter-partition", "dead-letter-offset")
    return len({tuple(each.headers[name] for name in said) for each in letters})


async def through_kills(
    kafka_server: KafkaServer,
    place: KafkaPlace,
    database_url: str,
    folder: Path,
    seconds: float,
    every_s: float,
) -> None:
    """Kill random roles, and the broker once, under so many seconds of load; then count."""
    dice = random.Random(7)  # noqa: S311 - no secret
    user = KafkaUser(place)
    async with RoleProcesses(database_url, place, folder) as processes:
        await processes.start_all(*TWO_OF_SOME)
        async with Bridge.open(
            traded(folder), database_url=database_url, kafka=place, roles=()
        ) as bridge:
            load = Load(bridge, user)

            async def work() -> None:
                ends, broker_dies = monotonic() + seconds, monotonic() + seconds / 2
                await asyncio.sleep(1)
                while monotonic() < ends:
                    if processes.running:
                        await processes.kill(dice.choice(processes.running))
                    if monotonic() > broker_dies:
                        broker_dies = ends
                        kafka_server.kill()
                        await asyncio.to_thread(kafka_server.start)
                    await asyncio.sleep(every_s)
                await processes.all_ready()

            await load.during(work)
            assert processes.kills >= seconds / 2, "hardly anybody was killed: no test"
            await bridge.settled(timeout=120)
            await require_once(bridge, database_url, user, load, folder)


@pytest.mark.timeout(300)
async def test_roles_and_broker_that_are_killed_lose_and_double_nothing(
    kafka_server: KafkaServer, kafka_place: KafkaPlace, database_url: str, tmp_path: Path
) -> None:
    await through_kills(kafka_server, kafka_place, database_url, tmp_path, 10, 0.5)


@pytest.mark.soak
async def test_roles_and_broker_that_are_killed_for_a_minute_lose_and_double_nothing(
    kafka_server: KafkaServer, kafka_place: KafkaPlace, database_url: str, tmp_path: Path
) -> None:
    await through_kills(kafka_server, kafka_place, database_url, tmp_path, 60, 1.0)


@pytest.mark.timeout(300)
async def test_a_rolling_restart_of_every_role_fails_no_ask(
    kafka_place: KafkaPlace, database_url: str, tmp_path: Path
) -> None:
    user = KafkaUser(kafka_place)
    async with RoleProcesses(database_url, kafka_place, tmp_path) as processes:
        await processes.start_all(*TWO_OF_SOME)
        async with Bridge.open(
            traded(tmp_path), database_url=database_url, kafka=kafka_place, roles=()
        ) as bridge:
            load = Load(bridge, user)
            gaps: list[float] = []

            async def work() -> None:
                await asyncio.sleep(0.5)
                for each in list(processes.running):
                    load.longest_gap_s = 0.0
                    await processes.stop_and_start(each)
                    gaps.append(load.longest_gap_s)

            await load.during(work)
            await bridge.settled(timeout=120)
            await require_once(bridge, database_url, user, load, tmp_path)
            late = [gap for gap in gaps if gap >= STOP_GAP_S]
            assert len(late) <= 1, gaps
            assert all(gap < LATE_GAP_S for gap in late), gaps


@pytest.mark.timeout(300)
async def test_a_role_that_is_killed_or_paused_is_soon_done_by_another(
    kafka_place: KafkaPlace, database_url: str, tmp_path: Path
) -> None:
    async with RoleProcesses(database_url, kafka_place, tmp_path) as processes:
        await processes.start_all(*(["reducer --persist over-bus", "store-effect"] * 2))
        async with Bridge.open(
            traded(tmp_path), database_url=database_url, kafka=kafka_place, roles=()
        ) as bridge:
            first, second, *others = processes.running
            for one, fate in (
                (first, "killed"),
                (second, "killed"),
                *((each, "paused") for each in others),
            ):
                load = Load(bridge, KafkaUser(kafka_place))

                async def work(one: RoleProcess = one, fate: str = fate) -> None:
                    await asyncio.sleep(0.5)
                    if fate == "killed":
                        await processes.kill(one)
                    else:
                        one.process.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(KILL_GAP_S)
                    if fate == "paused":
                        one.process.send_signal(signal.SIGCONT)
                    await processes.all_ready()

                await load.during(work, runs=0)
                assert load.longest_gap_s < KILL_GAP_S, (one.arguments, fate)
            assert (await bridge.verify()).mismatches == []
