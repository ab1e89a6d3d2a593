"""How many partitions each process is to have: a pure function of who is there.

Rule 1: shares differ by one at most, and together they are all partitions. The eldest have more.
Rule 2: nobody's share grows because another joins, and nobody's shrinks because one leaves: the
        share of rank r among n is ceil((P - r) / n), which only falls when r or n grow, and a
        newcomer has the last rank. So the partitions that move are those that must.
Rule 3: partitions are shared by those with the app of the eldest. An owner that does not know a key
        type would give its actions up; who comes with another app waits until these have gone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
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
    eldest = members[0]
    equals = [each.member for each in members if each.app == eldest.app]
    if member not in equals:
        return Share(0, waits_for=eldest.name)
    rank = equals.index(member)
    return Share(-(-(partitions - rank) // len(equals)), rank)


def app_print(key_types: Mapping[str, int], effect_types: Iterable[str]) -> str:
    """Return one text for key types, with the versions of their reducers, and effect types."""
    parts = [f"{name} {version}" for name, version in sorted(key_types.items())]
    said = "\n".join([*parts, "", *sorted(effect_types)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]
