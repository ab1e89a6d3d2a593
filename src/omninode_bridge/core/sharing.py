"""How many partitions each process is to have: a pure function of who is there.

Rule 1: shares differ by one at most, and together they are all partitions. The eldest have more.
Rule 2: nobody's share grows because another joins, and nobody's shrinks because one leaves: the
        share of rank r among n is ceil((P - r) / n), which only falls when r or n grow, and a
        newcomer has the last rank. So the partitions that move are those that must.
Rule 3: partitions are shared by those who came before the first one with another app than the
        eldest. An owner that does not know a key type would give its actions up, so who comes with
        another app waits until these have gone; and nobody who comes later keeps it waiting.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

LEASE: Final = timedelta(seconds=3)
"""Takeover within 5 s of a death leaves two for noticing it, for taking, and for a slow machine."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process: its id, its name for people, and what it can fold and carry out."""

    member: UUID
    name: str
    app: str


@dataclass(frozen=True, slots=True)
class Share:
    """How many partitions a process is to have, or (`waits_for`) whom it has to wait for."""

    partitions: int
    rank: int = 0
    waits_for: str | None = None


def share_of(member: UUID, members: Sequence[Member], partitions: int) -> Share:
    """Return the share of `member`, one of `members`, who stand in the order of their coming."""
    equals = list(takewhile(lambda each: each.app == members[0].app, members))
    rank = [each.member for each in members].index(member)
    if rank < len(equals):
        return Share(-(-(partitions - rank) // len(equals)), rank)
    ours = members[rank].app
    first = next(each for each in members if each.app != ours)
    return Share(0, waits_for=first.name)


def app_print(key_types: Mapping[str, int], effect_types: Iterable[str]) -> str:
    """Return one text for key types, with the versions of their reducers, and effect types."""
    parts = [f"{name} {version}" for name, version in sorted(key_types.items())]
    said = "\n".join([*parts, "", *sorted(effect_types)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]
