"""The two paths on one live database: in turns, beside each other, and on one key at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from omninode_bridge import (
    BatchCommitted,
    Bridge,
    BridgeClosed,
    CommitRefused,
    Observation,
    OutcomeUnknown,
    OwnershipChanged,
)
from omninode_bridge.core.message import SealedAction
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.services.canonical_store import CanonicalStoreService
from omninode_bridge.services.direct_path import DirectPath
from omninode_bridge.services.event_log import ActionLogService
from tests.bridges import app, fetch, until
from tests.programs import PROGRAM, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    import pytest

    from omninode_bridge import Outcome

CODEC: Final = CanonicalCodec()
PAYLOAD: Final = {"amount": 1}


@asynccontextmanager
async def beside_the_owner(database_url: str) -> AsyncIterator[DirectPath]:
    """Run a direct path without a token on partition 0."""
    async with Database({"dsn": database_url}, connections_max=2) as database:
        direct = DirectPath(
            *(0, None),
            store=CanonicalStoreService(database, CODEC, partitions=1),
            action_log=ActionLogService(database, CODEC),
            key_types=app.key_types(),
            codec=CODEC,
            clock=lambda: datetime.now(UTC),
            new_id=uuid4,
            uniform=random.uniform,
        )
        running = asyncio.create_task(direct.run())
        yield direct
        direct.stop()
        await running


def counted(action_id: UUID, key: str = "counter:1") -> SealedAction:
    """Return an action that counts 1."""
    return SealedAction(action_id, key, "Counted", CODEC.encode(PAYLOAD), datetime.now(UTC))


async def history_of(database_url: str) -> Counter[UUID]:
    """Return how often each action id stands in the history."""
    rows = await fetch(database_url, "SELECT action_id FROM event_log_state_committed")
    return Counter(UUID(bytes=row["action_id"].bytes) for row in rows)


async def require_once(bridge: Bridge, database_url: str, asked: set[UUID]) -> None:
    """Pass when each action that was asked is committed once, and the history verifies."""
    await bridge.settled()
    assert await history_of(database_url) == Counter(asked)
    verification = await bridge.verify()
    assert verification.mismatches == []
    assert verification.actions == len(asked)


# -- switched on and off -----------------------------------------------------------


async def test_a_bridge_takes_the_path_it_is_told_to(database_url: str) -> None:
    for pure_reducer in (True, False):
        seen: list[Observation] = []
        async with Bridge.open(
            app, database_url=database_url, observe=seen.append, pure_reducer=pure_reducer
        ) as bridge:
            await bridge.submit_many([("counter:1", "Counted", PAYLOAD)] * 50)
        batches = [fact.actions for fact in seen if isinstance(fact, BatchCommitted)]
        assert sum(batches) == 50
        assert (max(batches) == 1) is not pure_reducer


async def test_switching_back_and_forth_loses_nothing_that_waits_in_the_log(
    database_url: str,
) -> None:
    asked: set[UUID] = set()
    for turn in range(6):
        async with Bridge.open(
            app, database_url=database_url, partitions=2, pure_reducer=turn % 2 == 0
        ) as bridge:
            told = await asyncio.gather(
                *(bridge.enqueue(f"counter:{n % 5}", "Counted", PAYLOAD) for n in range(200))
            )
            asked.update(told)
            # It closes with most of them undecided: the next one, of the other kind, goes on.
    waiting = await fetch(
        database_url,
        """
        SELECT sum(action_head - next) AS actions FROM event_log_action_heads a
        JOIN event_log_positions p ON p.partition = a.partition AND p.consumer = 'reducer'
        """,
    )
    assert waiting[0]["actions"] > 0, (
        "the last one of them was the direct path, in a hurry to close"
    )
    async with Bridge.open(app, database_url=database_url) as bridge:
        await require_once(bridge, database_url, asked)


class Clients:
    """They ask whichever bridge was opened last, by both doors, and again where no answer came."""

    def __init__(self) -> None:
        """Nothing asked yet."""
        self.bridge: Bridge | None = None
        self.asked: set[UUID] = set()
        self.versions: list[tuple[str, int]] = []
        self.ended = False

    async def work(self, key: str) -> None:
        """Enqueue one and submit one, over and over."""
        while not self.ended:
            enqueued, submitted = uuid4(), uuid4()
            self.asked |= {enqueued, submitted}
            while not await self._is_taken(key, enqueued):
                pass
            while (outcome := await self._outcome(key, submitted)) is None:
                pass
            self.versions.append((key, outcome.committed().version))

    async def _is_taken(self, key: str, action_id: UUID) -> bool:
        assert self.bridge is not None
        try:
            await self.bridge.enqueue(key, "Counted", PAYLOAD, action_id=action_id)
        except BridgeClosed:
            await asyncio.sleep(0)
            return False
        return True

    async def _outcome(self, key: str, action_id: UUID) -> Outcome | None:
        assert self.bridge is not None
        try:
            return await self.bridge.submit(key, "Counted", PAYLOAD, action_id=action_id)
        except (BridgeClosed, OutcomeUnknown):
            await asyncio.sleep(0)
            return None

    async def answers(self, more: int) -> None:
        """Wait until so many more have their answer."""
        goal = len(self.versions) + more
        await until(lambda: len(self.versions) >= goal, f"{more} more answers")


async def test_bridges_of_both_kinds_take_over_from_each_other_in_the_middle_of_work(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # R3, R4, R12
    # What is free is found four times in this time.
    # A bound only: at five seconds a test would wait for each change of hands.
    monkeypatch.setattr("omninode_bridge.app.bridge.LEASE", timedelta(seconds=1))
    clients = Clients()
    async with AsyncExitStack() as before, asyncio.TaskGroup() as group:
        for turn in range(5):
            opened = AsyncExitStack()
            clients.bridge = await opened.enter_async_context(
                Bridge.open(
                    app, database_url=database_url, partitions=2, pure_reducer=turn % 2 == 0
                )
            )
            if turn == 0:
                for number in range(8):
                    group.create_task(clients.work(f"counter:{number % 3}"))
            await clients.answers(40)  # by the log: the one before still owns the partitions
            await before.aclose()
            before.push_async_callback(opened.aclose)
            await clients.answers(40)
        clients.ended = True
    assert len(set(clients.versions)) == len(clients.versions), "no version is told twice"
    async with Bridge.open(app, database_url=database_url) as bridge:
        await require_once(bridge, database_url, clients.asked)


# -- both at once -----------------------------------------------------------


async def test_both_at_once_on_one_key_stay_correct(database_url: str) -> None:  # R3, R5
    seen: list[Observation] = []
    ids = [uuid4() for _ in range(300)]
    async with (
        Bridge.open(app, database_url=database_url, partitions=1, observe=seen.append) as bridge,
        beside_the_owner(database_url) as direct,
    ):

        async def by_the_owner(action_id: UUID) -> Outcome:
            return await bridge.submit(
                "counter:1", "Counted", PAYLOAD, action_id=action_id, timeout=30
            )

        async def beside_it(action_id: UUID) -> Outcome:
            return await direct.handle_action(counted(action_id))

        async def some(asks: Callable[[UUID], Awaitable[Outcome]], mine: list[UUID]) -> None:
            for action_id in mine:
                told[action_id].append(await asks(action_id))

        told: dict[UUID, list[Outcome]] = {action_id: [] for action_id in ids}
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            # A third is asked of the owner, a third beside it, and the last of both at once.
            for first in range(0, 100, 10):
                for asks, start in ((by_the_owner, 0), (beside_it, 100)):
                    mine = [*ids[start + first :][:10], *ids[200 + first :][:10]]
                    group.create_task(some(asks, mine))
        assert [len(told[action_id]) for action_id in ids] == [1] * 200 + [2] * 100
        for outcomes in told.values():
            assert outcomes[0] == outcomes[-1], "whoever asks for an id is told the same"
        versions = sorted(outcomes[0].committed().version for outcomes in told.values())
        assert versions == list(range(1, 301))
        state = await bridge.state("counter:1")
        assert state is not None
        assert (state.version, state.state) == (300, {"count": 300, "total": 300})
        assert any(isinstance(fact, CommitRefused) for fact in seen), "they did meet"
        assert not any(
            isinstance(fact, OwnershipChanged) and fact.change == "lost" for fact in seen
        )
        await require_once(bridge, database_url, set(ids))


async def test_bridges_of_both_kinds_share_the_partitions_of_a_server(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # R10, R12
    # A bound only: at five seconds a test would wait for each change of hands.
    monkeypatch.setattr("omninode_bridge.app.bridge.LEASE", timedelta(seconds=1))
    seen: list[Observation] = []
    async with (
        Bridge.open(app, database_url=database_url) as worker,
        Bridge.open(
            app, database_url=database_url, observe=seen.append, pure_reducer=False
        ) as direct,
    ):
        # The one that came first lets go of the two highest of the four.
        taken = OwnershipChanged(2, "taken"), OwnershipChanged(3, "taken")
        await until(lambda: all(fact in seen for fact in taken), "the other bridge to get its half")
        payload = {"amount": 1, "passes_on_to": ["counter:sum"]}
        ids = [uuid4() for _ in range(80)]
        told = await asyncio.gather(
            *(
                bridge.submit(
                    f"counter:{n % 10}", "Counted", payload, action_id=action_id, timeout=30
                )
                for n, action_id in enumerate(ids)
                for bridge in (worker, direct)
            )
        )
        assert any(isinstance(fact, BatchCommitted) for fact in seen)
        assert told[::2] == told[1::2], "whoever asks for an id is told the same"
        await worker.settled()
        state = await worker.state("counter:sum")
        assert state is not None
        assert state.state == {"count": 80, "total": 80}
        verification = await direct.verify()
        assert (verification.mismatches, verification.actions) == ([], 160)


# -- as an operator meets it -----------------------------------------------------------


def test_the_environment_switches_the_program_to_the_direct_path(
    server_folder: Path, tmp_path: Path
) -> None:
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(str(number))
    place: tuple[str | Path, ...] = ("--data-dir", server_folder / "data")
    command = (PROGRAM, "stamp", tmp_path, "--namespace", "ns", "--json", *place)
    direct = run(*command, ENABLE_PURE_REDUCER="false")
    assert direct.status == 0, direct.words
    assert direct.object()["new"] == 12
    folded = run(*command, ENABLE_PURE_REDUCER="true")
    assert folded.object()["unchanged"] == 12
    assert run(PROGRAM, "verify", *place, "--json").object()["mismatches"] == []
    wrong = run(*command, ENABLE_PURE_REDUCER="perhaps")
    assert wrong.status == 2
    assert "ENABLE_PURE_REDUCER" in wrong.words
