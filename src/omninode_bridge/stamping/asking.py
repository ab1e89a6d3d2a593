"""What a run asks the bridge: what is known of a namespace, and patience with an outage."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from omninode_bridge import Action, Bridge, DatabaseUnavailable, Outcome, OutcomeUnknown
from omninode_bridge.stamping.files import STAMPED
from omninode_bridge.stamping.keys import file_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_T = TypeVar("_T")

PAGE: Final = 1_000
TRIES: Final = 5
ANSWER_WAIT_S: Final = 30.0
OUTAGE_WAIT_S: Final = 2.0
SETTLE_WAIT_S: Final = 60.0
SETTLED_PER_S: Final = 100
"""Far below what any machine does: a bound for what has stopped, not a race."""


class Known(NamedTuple):
    """What the projection says of a file: its version, whether it is stamped, and its hash."""

    version: int
    stamped: bool
    file_hash: str


NEVER_SEEN: Final = Known(0, stamped=False, file_hash="")


async def known_files(bridge: Bridge, namespace: str) -> dict[str, Known]:
    """Return what is known of each file of `namespace` that was ever stamped, by its path.

    Raises:
        DatabaseUnavailable: after `TRIES` times.
    """
    known: dict[str, Known] = {}
    prefix = file_key(namespace, "")
    after: str | None = None
    while True:
        following = partial(bridge.list, namespace=namespace, after=after, limit=PAGE)
        page = await _patiently(following)
        if not page:
            return known
        for row in page:
            if row.workflow_key.startswith(prefix):
                path = row.workflow_key.removeprefix(prefix)
                indices = row.indices or {}
                known[path] = Known(row.version, row.tag == STAMPED, indices["file_hash"])
        after = page[-1].workflow_key


async def ask(bridge: Bridge, actions: Sequence[Action]) -> list[Outcome]:
    """Return the outcome of each action. Without an answer, they are asked again under their ids.

    Raises:
        OutcomeUnknown, DatabaseUnavailable: after `TRIES` times.
    """
    return await _patiently(partial(bridge.submit_many, actions, timeout=ANSWER_WAIT_S))


async def settle(bridge: Bridge, files: int) -> None:
    """Return when all is committed and projected, with time enough for `files` files.

    Raises:
        TimeoutError: something has stopped.
        DatabaseUnavailable: after `TRIES` times.
    """
    await _patiently(partial(bridge.settled, SETTLE_WAIT_S + files / SETTLED_PER_S))


async def _patiently(question: Callable[[], Awaitable[_T]]) -> _T:
    """Return the answer, and how often it took to ask: an outage may end."""
    tries = 1
    while True:
        try:
            return await question()
        except OutcomeUnknown:
            if tries >= TRIES:
                raise
        except DatabaseUnavailable:
            if tries >= TRIES:
                raise
            await asyncio.sleep(OUTAGE_WAIT_S * tries)
        tries += 1
