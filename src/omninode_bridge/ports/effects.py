"""Effects as their runner sees them: in the log, parked beside it, and at their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from omninode_bridge.core.effects import EndedEffect, LoggedIntent, OpenEffect, ParkedEffect
    from omninode_bridge.ports.logs import CutOff


@dataclass(frozen=True, slots=True)
class EffectsBegun:
    """Where the effects of a partition stand: the position, and what is over or parked behind it.

    `head` is that of the log: what lies before it may have been begun by who came before.
    `waiting` are parked ones that hold back others: type, workflow key and offset.
    """

    position: int
    head: int
    over: frozenset[int]
    waiting: Sequence[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class EffectPage:
    """Intents for effects, and the offset to read on from."""

    entries: Sequence[LoggedIntent]
    following: int


class EffectLog(Protocol):
    """The `intent` topic as effects read it: without what the dispatcher carries over."""

    async def begin(self, partition: int, ordered: Sequence[str]) -> EffectsBegun:
        """Return where the effects of a partition stand; `ordered` are types in lanes."""
        ...

    async def read(self, partition: int, position: int, limit: int) -> EffectPage | CutOff:
        """Return up to `limit` intents for effects from `position` on."""
        ...


class ParkedEffects(Protocol):
    """Effects that wait outside of the log."""

    async def due(
        self, partition: int, types: Mapping[str, int], ordered: Sequence[str], busy: Sequence[int]
    ) -> tuple[Sequence[OpenEffect], float | None]:
        """Return those that are due, at most so many of each type, and the seconds to the next.

        Each may have been begun by somebody who has left no word of it (`maybe_begun`).
        Offsets in `busy` are left out. Of an `ordered` type and one key only the first comes.
        """
        ...

    async def find(self, partition: int, intent_id: UUID) -> OpenEffect | None:
        """Return the waiting effect of an intent, or None when none is parked.

        It may have been begun (`maybe_begun`), but for one whose own time has not come.
        """
        ...


class EffectTransaction(Protocol):
    """A transaction in which a handler writes, and which ends its effect."""

    connection: Any

    async def end(self, ended: EndedEffect) -> Literal["ended", "over", "not_owner"]:
        """End the effect in this transaction.

        `over`: it had ended before, and `not_owner`: the partition is another's; then this
        transaction has to be undone.
        """
        ...


class EffectEnds(Protocol):
    """Where the ends of effects become durable."""

    async def settle(
        self,
        partition: int,
        owner: UUID | None,
        ended: Sequence[EndedEffect],
        parked: Sequence[ParkedEffect],
        position: int,
    ) -> bool:
        """Make ends, parked ones, follow-ups and position durable together; False: not owner.

        May be repeated after a lost reply: what is over stays as it was said first.
        """
        ...

    def transaction(
        self, partition: int, owner: UUID | None
    ) -> AbstractAsyncContextManager[EffectTransaction]:
        """Open a transaction on the partition's database; it ends with the context."""
        ...
