"""Bridges on one server wake each other: what crosses does not wait for a poll."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge, DatabaseUnavailable, LoopStumbled, OwnershipChanged
from omninode_bridge.host import log_door
from omninode_bridge.infrastructure.postgres import listening
from omninode_bridge.services import direct_path, reducer_service
from tests.bridges import app, fetch, until
from tests.faults.proxy import LossyProxy

if TYPE_CHECKING:
    from omninode_bridge import Observation

KEYS: Final = [f"counter:{n}" for n in range(12)]
LISTENERS: Final = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database()
  AND (query LIKE 'LISTEN %' OR query LIKE '%SELECT pg_backend_pid()%')
  AND pid <> pg_backend_pid()
"""


@pytest.fixture
def without_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody find anything by polling."""
    monkeypatch.setattr(reducer_service, "POLL_S", 3_600)
    monkeypatch.setattr(direct_path, "POLL_S", 3_600)
    monkeypatch.setattr(log_door, "WATCH_S", 3_600)


async def until_halved(seen: list[Observation]) -> None:
    """Wait until the bridge that came second has its half of four partitions."""
    taken = OwnershipChanged(2, "taken"), OwnershipChanged(3, "taken")
    await until(lambda: all(fact in seen for fact in taken), "the second one to have its half")


async def until_listening(database_url: str, processes: int) -> None:
    """Wait until so many have a connection that hears."""
    async with asyncio.timeout(10):
        while len(await fetch(database_url, LISTENERS)) < processes:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


async def ask_all(*bridges: Bridge) -> None:
    """Have each bridge ask each key, one after the other."""
    for bridge in bridges:
        for key in KEYS:
            outcome = await bridge.submit(key, "Counted", {"amount": 1}, timeout=10)
            assert not outcome.committed().duplicate


@pytest.mark.usefixtures("without_polls")
@pytest.mark.parametrize("pure_reducer", [True, False], ids=["worker", "direct"])
async def test_owners_and_askers_are_woken_across_processes(
    database_url: str, *, pure_reducer: bool
) -> None:
    seen: list[Observation] = []
    async with (
        Bridge.open(app, database_url=database_url, pure_reducer=pure_reducer) as first,
        Bridge.open(
            app, database_url=database_url, pure_reducer=pure_reducer, observe=seen.append
        ) as second,
    ):
        await until_halved(seen)
        await ask_all(first, second)
        # Follow-up actions and what is enqueued wake their owners as well.
        payload = {"amount": 1, "passes_on_to": KEYS}
        await first.enqueue("counter:source", "Counted", payload)
        await second.enqueue("counter:sink", "Counted", payload)
        async with asyncio.timeout(10):
            for key in KEYS:
                await first.read(key, required_version=4, max_wait_ms=10_000)


@pytest.mark.usefixtures("without_polls")
async def test_who_was_cut_off_while_it_listened_listens_again(database_url: str) -> None:
    seen: list[Observation] = []
    async with (
        Bridge.open(app, database_url=database_url, observe=seen.append) as first,
        Bridge.open(app, database_url=database_url, observe=seen.append) as second,
    ):
        await until_halved(seen)
        await ask_all(first, second)
        listeners = await fetch(database_url, LISTENERS)
        assert len(listeners) == 2
        for row in listeners:
            await fetch(database_url, "SELECT pg_terminate_backend($1)", row["pid"])

        def stumbles() -> list[str]:
            return [fact.loop for fact in seen if isinstance(fact, LoopStumbled)]

        await until(lambda: stumbles().count("wakes") == 2, "both to find out")
        await until_listening(database_url, 2)
        await ask_all(first, second)


async def test_who_cannot_listen_finds_everything_by_polling(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(*_: object) -> None:
        """Return at once, as behind a pooler."""

    monkeypatch.setattr("omninode_bridge.services.wakes.listen", deaf)
    seen: list[Observation] = []
    async with (
        Bridge.open(app, database_url=database_url) as first,
        Bridge.open(app, database_url=database_url, observe=seen.append) as second,
    ):
        await until_halved(seen)
        await ask_all(first, second)


async def test_a_connection_that_is_silently_dead_is_found_out(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PROBE_S", 0.2)
    async with LossyProxy(database_url) as proxy:
        hearing = asyncio.create_task(listening.listen({"dsn": proxy.url}, "a_channel", print))
        await until_listening(database_url, 1)
        proxy.go_silent()
        with pytest.raises(DatabaseUnavailable):
            async with asyncio.timeout(10):
                await hearing
