"""Which loops are begun again after an error, and which are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omninode_bridge.core.errors import BrokenPromise, DatabaseUnavailable, PartitionsChanged
from omninode_bridge.core.observation import LoopStumbled
from omninode_bridge.host.keeping import Keeper
from omninode_bridge.testing import MemoryWorld, SettableClock
from tests.hosts import hosted

if TYPE_CHECKING:
    from omninode_bridge import Observation


class Loop:
    """A loop that raises these errors, one each time it is run, and then ends."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)


async def kept(loop: Loop, *, closing: bool = False) -> tuple[list[Observation], list[Exception]]:
    """Keep the loop running; return what was reported, and what has stopped it."""
    facts: list[Observation] = []
    failures: list[Exception] = []

    async def pause(_seconds: float) -> bool:
        return closing

    world = hosted(MemoryWorld(clock=SettableClock(), partitions=1), observe=facts.append)
    await Keeper(world, pause, failures.append).keep("timers", 0, loop.run)
    return facts, failures


async def test_a_loop_is_begun_again_after_an_error() -> None:
    errors = [DatabaseUnavailable("away"), ValueError("whatever")]
    loop = Loop(*errors)
    facts, failures = await kept(loop)
    assert (loop.runs, failures) == (3, [])
    assert facts == [
        LoopStumbled("timers", 0, attempt, error) for attempt, error in enumerate(errors, 1)
    ]


@pytest.mark.parametrize("error", [BrokenPromise("a gap"), PartitionsChanged()])
async def test_it_is_not_where_that_cannot_help(error: Exception) -> None:
    loop = Loop(error)
    facts, failures = await kept(loop)
    assert (loop.runs, failures) == (1, [error])
    assert facts == [LoopStumbled("timers", 0, 1, error)]


async def test_nor_is_it_when_we_close() -> None:
    error = DatabaseUnavailable("away")
    loop = Loop(error)
    _, failures = await kept(loop, closing=True)
    assert (loop.runs, failures) == (1, [error])
