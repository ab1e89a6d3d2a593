"""The canonical store of a reducer that commits nothing: it sends its commits to a store effect.

Implements the port `CanonicalStore` over another one, which reads and locks, and the bus.

Rule 1: what is not answered in time is *unknown*, as after a lost connection: the reducer looks
        under the partition's lock, folds again what it does not find, and sends that. Should the
        first commit be carried out only then, one of the two finds the other's ids, versions or
        position under the lock, and is refused whole (the proof is that of `reducer_service`).
Rule 2: a refusal may be the echo of our own commit, carried out before and answered to nobody: the
        position has moved because we moved it. That, too, is unknown. A token is nobody's echo.
Rule 3: the last attempt under contention reads, folds and commits while it holds the partition's
        lock. Nobody else could commit then, so the reducer does it itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.commit import Accepted
from omninode_bridge.core.errors import (
    BusRefused,
    BusUnavailable,
    CommitTooLarge,
    StoreEffectSilent,
    ValueRefused,
)
from omninode_bridge.ports import Unstorable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from omninode_bridge.core.commit import Commit, Refusal
    from omninode_bridge.core.reducer import Snapshot
    from omninode_bridge.ports import (
        CanonicalStore,
        LockedPartition,
        PersistAsks,
        RememberedOutcomes,
    )

ANSWER_WAIT_S: Final = 5.0
TOO_LARGE: Final = "54000"
"""The SQLSTATE for what exceeds a limit of the program."""


class PersistOverBus:
    """Implements the port `CanonicalStore`."""

    def __init__(
        self,
        store: CanonicalStore,
        outcomes: RememberedOutcomes,
        bus: PersistAsks,
        *,
        answer_wait_s: float = ANSWER_WAIT_S,
    ) -> None:
        """Read from `store` and `outcomes`; send commits by `bus` and wait `answer_wait_s` each."""
        self._store = store
        self._outcomes = outcomes
        self._bus = bus
        self._answer_wait_s = answer_wait_s

    async def read(self, keys: Iterable[str]) -> Mapping[str, Snapshot]:
        """Return the snapshots of `keys`; keys never seen are absent."""
        return await self._store.read(keys)

    async def commit(self, commit: Commit) -> Accepted | Refusal:
        """Have the batch made durable (R2), or hear why nothing was written.

        Raises:
            StoreEffectSilent: committed or not is unknown.
            ValueRefused: the database refused a value, or the bus cannot carry so much at once;
                nothing was written, and a part of the batch may fare better.
        """
        try:
            answer = await self._bus.ask(commit, self._answer_wait_s)
        except CommitTooLarge as error:
            raise ValueRefused(TOO_LARGE, str(error)) from error
        except (BusUnavailable, BusRefused) as error:
            raise StoreEffectSilent(commit.partition, str(error)) from error
        if answer is None:
            waited = f"no answer within {self._answer_wait_s:g} s"
            raise StoreEffectSilent(commit.partition, waited)
        if isinstance(answer, Unstorable):
            raise ValueRefused(answer.sqlstate, answer.detail)
        if isinstance(answer, Accepted):
            return answer
        if answer.moved and not answer.not_owner:
            raise StoreEffectSilent(commit.partition, "the position has moved, perhaps by us")
        if answer.known:
            known = await self._outcomes.recall(commit.partition, list(answer.known))
            return replace(answer, known=known)
        return answer

    def locked(self, partition: int) -> AbstractAsyncContextManager[LockedPartition]:
        """Hold the partition's row: first waits for whoever commits there."""
        return self._store.locked(partition)
