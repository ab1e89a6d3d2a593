"""What a run asks the bridge: what is known of a namespace, and patience with an outage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from omninode_bridge import Action, Bridge, DatabaseUnavailable, Outcome, OutcomeUnknown
from omninode_bridge.stamping.files import STAMPED
from omninode_bridge.stamping.keys import file_key

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Return what is known of each file of `namespace` that was ever stamped, by its path."""
    known: dict[str, Known] = {}
    prefix = file_key(namespace, "")
    after: str | None = None
    while page := await bridge.list(namespace=namespace, after=after, limit=PAGE):
        for row in page:
            if row.workflow_key.startswith(prefix):
                path = row.workflow_key.removeprefix(prefix)
                indices = row.indices or {}
                known[path] = Known(row.version, row.tag == STAMPED, indices["file_hash"])
        after = page[-1].workflow_key
    return known


async def ask(bridge: Bridge, actions: Sequence[Action]) -> list[tuple[Outcome, bool]]:
    """Return the outcome of each action, and whether it is due to us.

    Without an answer they are asked again, under the same ids. From then on a duplicate may well be
    of our own making; before, another run has asked the same.

    Raises:
        OutcomeUnknown, DatabaseUnavailable: after `TRIES` times.
    """
    for attempt in range(1, TRIES + 1):
        try:
            outcomes = await bridge.submit_many(actions, timeout=ANSWER_WAIT_S)
        except (OutcomeUnknown, DatabaseUnavailable) as error:
            if attempt == TRIES:
                raise
            if isinstance(error, DatabaseUnavailable):
                await asyncio.sleep(OUTAGE_WAIT_S * attempt)
        else:
            return [(outcome, attempt > 1 or not outcome.duplicate) for outcome in outcomes]
    raise AssertionError("not reached: the last attempt returns or raises")


async def settle(bridge: Bridge, files: int) -> None:
    """Return when all is committed and projected, with time enough for `files` files.

    Raises:
        TimeoutError: something has stopped.
    """
    await bridge.settled(SETTLE_WAIT_S + files / SETTLED_PER_S)
