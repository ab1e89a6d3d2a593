"""What each process is to have of the partitions: a pure function of who is there.

Rule 1: shares differ by one at most, and together they are all partitions. The eldest have more.
Rule 2: nobody's share grows because another joins, and nobody's shrinks because one leaves: the
        share of rank r among n is ceil((P - r) / n), which only falls when r or n grow, and a
        newcomer has the last rank. So the partitions that move are those that must.
Rule 3: partitions are shared by those who came before the first one with another app than the
        eldest. An owner that does not know a key type would give its actions up, so who comes with
        another app waits until these have gone; and nobody who comes later keeps it waiting.
Rule 4: what follows the commits of a partition is done by its owner, who has them in memory, where
        the owner has that role; else by one of those that have it, by the partition's number. What
        needs no code of the app's is done by whoever has the role. Effects need it: of others'
        partitions those who came behind another app have none, as in rule 3.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.roles import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from omninode_bridge.core.roles import Following, Role

LEASE: Final = timedelta(seconds=3)
"""Takeover within 5 s of a death leaves two for noticing it, for taking, and for a slow machine."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process: its id, its name for people, what it can fold and carry out, and its roles.

    One that is `over_bus` has what it folds committed by a store effect elsewhere.
    """

    member: UUID
    name: str
    app: str
    roles: frozenset[Role] = ALL
    over_bus: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """How many partitions a process is to have, or (`waits_for`) whom it has to wait for."""

    partitions: int
    rank: int = 0
    waits_for: str | None = None


def share_of(member: UUID, members: Sequence[Member], partitions: int) -> Share:
    """Return the share of `member`, one of `members`, who stand in the order of their coming.

    Who has not the role of a reducer has none of the partitions, and keeps no reducer waiting.
    """
    own = next(each for each in members if each.member == member)
    reducers = [each for each in members if "reducer" in each.roles]
    if own not in reducers:
        carriers = [each for each in members if "effects" in each.roles]
        return Share(0, waits_for=_waits_for(own, carriers))
    waits_for = _waits_for(own, reducers)
    if waits_for is not None:
        return Share(0, waits_for=waits_for)
    rank = reducers.index(own)
    return Share(-(-(partitions - rank) // len(_equals(reducers))), rank)


def is_apart(members: Sequence[Member]) -> bool:
    """Return whether what follows commits may have to be done elsewhere than by the owner.

    It need not where all do the same, and fold among it.
    """
    return len({each.roles for each in members}) > 1 or "reducer" not in members[0].roles


def follower(
    role: Following, partition: int, owner: UUID | None, members: Sequence[Member]
) -> UUID | None:
    """Return who is to do what `role` does for a partition of `owner`; None: nobody, for now.

    `owner` is None while nobody holds the partition: one that can take it will do all of it. An
    owner without any role is about to go, and ends what it does before it lets the partition go.
    """
    able = [each for each in members if role in each.roles]
    if any(each.member == owner and (each in able or not each.roles) for each in members):
        return owner
    if owner is None and any("reducer" in each.roles for each in able):
        return None
    if role == "effects":
        able = _equals(able)
    return able[partition % len(able)].member if able else None


def committer(partition: int, members: Sequence[Member]) -> UUID | None:
    """Return which store effect is to commit what was sent for a partition by the bus, if any is.

    There is none to send it while nobody is `over_bus`.
    """
    if not any(each.over_bus for each in members):
        return None
    able = [each for each in members if "store-effect" in each.roles]
    return able[partition % len(able)].member if able else None


def _waits_for(own: Member, members: Sequence[Member]) -> str | None:
    """Return whom `own` waits for among `members` who need the app's code (rule 3), if anybody."""
    if own not in members or own in _equals(members):
        return None
    return next(each.name for each in members if each.app != own.app)


def _equals(members: Sequence[Member]) -> list[Member]:
    """Return those before the first one with another app than the eldest (rule 3)."""
    return list(takewhile(lambda each: each.app == members[0].app, members))


def app_print(key_types: Mapping[str, int], effect_types: Iterable[str]) -> str:
    """Return one text for key types, with the versions of their reducers, and effect types."""
    parts = [f"{name} {version}" for name, version in sorted(key_types.items())]
    said = "\n".join([*parts, "", *sorted(effect_types)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]
