"""Commits that travel by a bus: a reducer sends what it has folded, and a store effect commits it.

Rule 1: nothing depends on the bus but time. A commit says what it was folded from and under which
        token, so that the store refuses it when it comes too late or twice; and whoever hears no
        answer looks under the partition's lock what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.commit import Accepted, Commit, Refusal


@dataclass(frozen=True, slots=True)
class Unstorable:
    """The database refused a value of the commit, for a reason (SQLSTATE); nothing was written."""

    sqlstate: str
    detail: str


@dataclass(frozen=True, slots=True)
class Command:
    """A message of the topic of commits: a commit or, with the `reason`, none."""

    offset: int
    commit: Commit | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CommandPage:
    """Messages of one partition in order; `following` is the position behind them."""

    commands: Sequence[Command]
    following: int


class PersistAsks(Protocol):
    """Where a reducer sends its commits."""

    async def ask(self, commit: Commit, wait_s: float) -> Accepted | Refusal | Unstorable | None:
        """Send a commit; return the answer to it, or None when none has come within `wait_s`.

        The outcomes of what is `known` are not part of a refusal's answer: only their names are.

        Raises:
            BusUnavailable: whether it was sent is unknown.
        """
        ...


class PersistCommands(Protocol):
    """The commits of one partition, as a store effect reads and answers them."""

    async def bounds(self, partition: int) -> tuple[str, int, int]:
        """Return the topic's incarnation, the first offset that is there, and the next one."""
        ...

    async def read(self, partition: int, position: int, limit: int) -> CommandPage:
        """Return up to `limit` messages from `position` on; none after a while without any.

        Raises:
            BusUnavailable: try again.
            MessagesLost: what stood at `position` is no longer there.
        """
        ...

    async def answer(self, commit: Commit, answer: Accepted | Refusal | Unstorable) -> None:
        """Tell who sent `commit` what became of it.

        Raises:
            BusUnavailable: whether they are told is unknown.
        """
        ...

    def close(self, partition: int) -> None:
        """Read a partition no more."""
        ...


class CommandPositions(Protocol):
    """How far the commits of the topic were looked at: a hint, which saves looking again."""

    async def position(self, partition: int, incarnation: str, beginning: int) -> int:
        """Return the next offset to look at; `beginning` for a topic that is not the one before."""
        ...

    async def go_back(self, partition: int, incarnation: str, position: int) -> None:
        """Store a position that may be before the one that is stored."""
        ...

    async def advance(self, partition: int, incarnation: str, following: int) -> None:
        """Store that all before `following` was looked at."""
        ...
