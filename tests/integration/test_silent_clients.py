"""A client that goes silent while it holds a partition's row: the server lets the row go."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest

from omninode_bridge.core.effects import OpenEffect, done
from omninode_bridge.core.errors import DatabaseUnavailable
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.ports import EffectPage
from omninode_bridge.services.canonical_store import CanonicalStoreService
from omninode_bridge.services.effect_store import EffectStoreService
from tests.contract.batches import accepted, action, committed, folded
from tests.contract.ports import CODEC, PARTITIONS, Ports, postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SILENCE: Final = timedelta(milliseconds=200)


@pytest.fixture
async def ports(database_url: str) -> AsyncIterator[Ports]:
    """Yield the ports of those who come after."""
    async with postgres(database_url) as ports:
        yield ports


async def take(ports: Ports) -> list[int]:
    """Wait, with a bound, until partition 0 is under nobody's lock; return what could be taken."""
    deadline = monotonic() + 10
    while 0 not in await ports.members.free():
        if monotonic() > deadline:
            return []
        await asyncio.sleep(0.01)
    return list(await ports.leases.acquire(uuid4(), "who follows", timedelta(minutes=1), [0]))


async def test_a_batch_whose_client_goes_silent_is_undone(ports: Ports, database_url: str) -> None:
    async with Database({"dsn": database_url}, connections_max=1) as database:
        store = CanonicalStoreService(database, CODEC, partitions=PARTITIONS, lease=SILENCE)
        with pytest.raises(DatabaseUnavailable):  # noqa: PT012 - the block is the transaction
            async with store.locked(0) as locked:
                accepted(await locked.commit(await folded(locked, action())))
                taken = await take(ports)
        assert taken == [0]
        assert dict(await ports.store.read(["counter:1"])) == {}
        # The connection is replaced, and who speaks in time is left alone.
        async with store.locked(0) as locked:
            accepted(await locked.commit(await folded(locked, action())))
        assert (await ports.store.read(["counter:1"]))["counter:1"].version == 1


async def test_an_effect_whose_client_goes_silent_after_its_end_has_not_ended(
    ports: Ports, database_url: str
) -> None:
    await committed(ports, action("document:1", payload={"n": 1}))
    page = await ports.effect_log.read(0, 1, 100)
    assert isinstance(page, EffectPage)
    end = done(OpenEffect(page.entries[0]), 1, None, CODEC)
    async with Database({"dsn": database_url}, connections_max=1) as database:
        effects = EffectStoreService(database, CODEC, lease=SILENCE)
        with pytest.raises(DatabaseUnavailable):  # noqa: PT012 - the block is the transaction
            async with effects.transaction(0, None) as transaction:
                # A handler may be silent for as long as it likes: it holds nobody up.
                await asyncio.sleep(SILENCE.total_seconds() * 2)
                assert await transaction.end(end) == "ended"
                taken = await take(ports)
    assert taken == [0]
    assert (await ports.effect_log.begin(0, [])).over == frozenset()
