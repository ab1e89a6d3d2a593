"""The truth in memory: states, outcomes, leases, and the hints that are no truth."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

from omninode_bridge.infrastructure.state_replacement import replace_state
from omninode_bridge.testing.commits import commit_in
from omninode_bridge.testing.tables import Changes, EffectClaim, Lease, Seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
    from datetime import timedelta

    from omninode_bridge.core.commit import Accepted, ActionName, Commit, Refusal, Remembered
    from omninode_bridge.core.message import (
        Provenance,
        ReducerGaveUp,
        StateCommitted,
        StateConflict,
    )
    from omninode_bridge.core.reducer import Codec, KeyType, Snapshot
    from omninode_bridge.core.sharing import Member
    from omninode_bridge.ports import Clock, Wake
    from omninode_bridge.testing.interruptions import Interruptions
    from omninode_bridge.testing.tables import Partition, Tables


class MemoryCanonicalStore:
    """Implements the ports `CanonicalStore`, `RememberedOutcomes` and `StateReplacing`."""

    def __init__(
        self,
        tables: Tables,
        interruptions: Interruptions,
        codec: Codec,
        clock: Clock,
        lease: timedelta,
        key_types: Mapping[str, KeyType],
    ) -> None:
        """Commit into `tables`; a commit that shows its owner lengthens the lease to `lease`."""
        self.tables = tables
        self.interruptions = interruptions
        self._codec = codec
        self._clock = clock
        self._lease = lease
        self._key_types = key_types
        self._ids = count(
            1
        )  # of what is committed without provenance: no dice (rule 2 of the world)

    async def read(self, keys: Iterable[str]) -> dict[str, Snapshot]:
        """Return the snapshots of `keys`; keys never seen are absent."""
        with self.interruptions.around("store.read"):
            states = self.tables.states
            return {key: states[key] for key in keys if key in states}

    async def commit(self, commit: Commit) -> Accepted | Refusal:
        """Make the batch durable (R2), or write nothing and say all the reasons."""
        with self.interruptions.around("store.commit"):
            async with self.tables.partition(commit.partition).lock:
                changes = Changes()
                result = self.commit_in(changes, commit)
                self.tables.apply(commit.partition, changes)
                return result

    async def recall(
        self, partition: int, names: Iterable[ActionName]
    ) -> dict[ActionName, Remembered]:
        """Return the remembered outcomes among `names`; what is under way is not among them."""
        with self.interruptions.around("store.recall"):
            self.tables.partition(partition)
            outcomes = self.tables.outcomes
            return {name: outcomes[name].remembered for name in names if name in outcomes}

    @asynccontextmanager
    async def locked(self, partition: int) -> AsyncIterator[MemoryLockedPartition]:
        """Hold the partition: one transaction, which ends with the context."""
        with self.interruptions.around("store.locked"):
            async with self.tables.partition(partition).lock:
                changes = Changes()
                yield MemoryLockedPartition(self, partition, changes)
                self.tables.apply(partition, changes)

    async def try_commit(
        self,
        workflow_key: str,
        expected_version: int,
        state_prime: Mapping[str, Any],
        provenance: Provenance | None = None,
    ) -> StateCommitted | StateConflict | ReducerGaveUp:
        """Replace the state of one key if it is still at `expected_version` (0: never seen)."""
        return await replace_state(
            self,
            workflow_key,
            expected_version,
            state_prime,
            provenance,
            key_types=self._key_types,
            partitions=len(list(self.tables)),
            codec=self._codec,
            clock=self._clock,
            new_id=lambda: UUID(int=next(self._ids)),
        )

    def commit_in(self, changes: Changes, commit: Commit) -> Accepted | Refusal:
        """Add a commit to a transaction that holds the partition, or say why not."""
        return commit_in(self.tables, changes, commit, self._codec, self._clock(), self._lease)


class MemoryLockedPartition:
    """Implements the port `LockedPartition`: sees what it has changed itself, as nobody else."""

    def __init__(self, store: MemoryCanonicalStore, partition: int, changes: Changes) -> None:
        """Collect into `changes`."""
        self._store = store
        self._partition = partition
        self._changes = changes

    async def read(self, keys: Iterable[str]) -> dict[str, Snapshot]:
        """Return the snapshots of `keys`; keys never seen are absent."""
        with self._store.interruptions.around("locked.read"):
            states = self._store.tables.seen_states(self._changes)
            return {key: states[key] for key in keys if key in states}

    async def recall(self, names: Iterable[ActionName]) -> dict[ActionName, Remembered]:
        """Return the remembered outcomes among `names`."""
        with self._store.interruptions.around("locked.recall"):
            outcomes = self._store.tables.seen_outcomes(self._changes)
            return {name: outcomes[name].remembered for name in names if name in outcomes}

    async def commit(self, commit: Commit) -> Accepted | Refusal:
        """Commit in this transaction; it becomes durable when the context ends."""
        assert commit.partition == self._partition, "a transaction writes to one partition (R11)"
        with self._store.interruptions.around("locked.commit"):
            return self._store.commit_in(self._changes, commit)


class MemoryLeases:
    """Implements the port `Leases`, by the clock of the world."""

    def __init__(self, tables: Tables, interruptions: Interruptions, clock: Clock) -> None:
        """Write leases into `tables`."""
        self._tables = tables
        self._interruptions = interruptions
        self._clock = clock

    async def acquire(
        self,
        owner: UUID,
        name: str,
        lease: timedelta,
        partitions: Iterable[int],
        member: UUID | None = None,
    ) -> list[int]:
        """Take those of `partitions` that are free or expired, or already ours; return them."""
        with self._interruptions.around("leases.acquire"):
            taken: list[int] = []
            for number in partitions:
                partition = self._tables.partition(number)
                async with partition.lock:
                    now, held = self._clock(), partition.lease
                    if held is None or held.owner == owner or held.until < now:
                        partition.lease = Lease(owner, name, now + lease, member)
                        taken.append(number)
            return taken

    async def renew(self, owner: UUID, lease: timedelta) -> list[int]:
        """Lengthen the leases of `owner`; return the partitions it still owns."""
        with self._interruptions.around("leases.renew"):
            renewed: list[int] = []
            for number, partition in enumerate(self._tables):
                if _lease_of(partition, owner) is None:
                    continue
                async with partition.lock:
                    ours = _lease_of(partition, owner)
                    if ours is not None:
                        ours.until = self._clock() + lease
                        renewed.append(number)
            return renewed

    async def release(self, owner: UUID) -> None:
        """Let all partitions of `owner` go."""
        with self._interruptions.around("leases.release"):
            for partition in self._tables:
                async with partition.lock:
                    if partition.lease is not None and partition.lease.owner == owner:
                        partition.lease = None
                        claim = partition.effects_claim
                        if claim is not None and claim.owner is None:
                            partition.effects_claim = None


def _lease_of(partition: Partition, owner: UUID) -> Lease | None:
    held = partition.lease
    return held if held is not None and held.owner == owner else None


class MemoryEffectClaims:
    """Implements the port `EffectClaims`, by the clock of the world."""

    def __init__(self, tables: Tables, interruptions: Interruptions, clock: Clock) -> None:
        """Write claims into `tables`."""
        self._tables = tables
        self._interruptions = interruptions
        self._clock = clock

    async def take(self, partition: int, owner: UUID, member: UUID, *, apart: bool) -> bool:
        """Take the effects of a partition; return whether `owner` carries them out now."""
        with self._interruptions.around("claims.take"):
            here = self._tables.partition(partition)
            async with here.lock:
                if not apart and _lease_of(here, owner) is None:
                    return False
                claim = EffectClaim(owner if apart else None, member)
                held = here.effects_claim
                if held is not None and held != claim and self._is_there(held.member):
                    return False
                here.effects_claim = claim
                return True

    async def leave(self, partition: int, owner: UUID) -> None:
        """Let the effects go that were taken under `owner`."""
        with self._interruptions.around("claims.leave"):
            here = self._tables.partition(partition)
            async with here.lock:
                held = here.effects_claim
                if held is None:
                    return
                if held.owner == owner or (held.owner is None and _lease_of(here, owner)):
                    here.effects_claim = None

    def _is_there(self, member: UUID) -> bool:
        seen = self._tables.members.get(member)
        return seen is not None and seen.until >= self._clock()


class MemoryMembers:
    """Implements the port `Members`, by the clock of the world."""

    def __init__(self, tables: Tables, interruptions: Interruptions, clock: Clock) -> None:
        """Write members into `tables`."""
        self._tables = tables
        self._interruptions = interruptions
        self._clock = clock

    async def beat(self, member: Member, lasts: timedelta) -> list[Member]:
        """Say that `member` is there for `lasts` from now; return all that are, eldest first."""
        with self._interruptions.around("members.beat"):
            now, members = self._clock(), self._tables.members
            for seen in [seen for seen in members.values() if seen.until < now]:
                del members[seen.member.member]  # a dict keeps the order of coming
            seen = members.setdefault(member.member, Seen(member, now))
            seen.member, seen.until = member, now + lasts
            return [seen.member for seen in members.values()]

    async def leave(self, member: UUID) -> None:
        """Say that it is there no more."""
        with self._interruptions.around("members.leave"):
            self._tables.members.pop(member, None)

    async def owners(self) -> dict[int, UUID]:
        """Return by which member each partition is held whose lease is valid."""
        with self._interruptions.around("members.owners"):
            now = self._clock()
            return {
                number: partition.lease.member
                for number, partition in enumerate(self._tables)
                if partition.lease is not None
                and partition.lease.member is not None
                and partition.lease.until >= now
            }

    async def free(self) -> list[int]:
        """Return the partitions without an owner or a valid lease that nobody has locked."""
        with self._interruptions.around("members.free"):
            now = self._clock()
            return [
                number
                for number, partition in enumerate(self._tables)
                if not partition.lock.locked()
                and (partition.lease is None or partition.lease.until < now)
            ]


class MemoryWakes:
    """Implements the port `Wakes`: whoever shares the world hears, the teller included."""

    def __init__(self, interruptions: Interruptions) -> None:
        """Begin with nobody listening."""
        self._interruptions = interruptions
        self._listening: list[Callable[[Wake], None]] = []

    def tell(self, wake: Wake) -> None:
        """Say that there is something to look at."""
        for heard in self._listening:
            asyncio.get_running_loop().call_soon(heard, wake)

    async def hear(self, heard: Callable[[Wake], None]) -> None:
        """Hear what is told until cancelled."""
        with self._interruptions.around("wakes.hear"):
            self._listening.append(heard)
            try:
                await asyncio.Event().wait()
            finally:
                self._listening.remove(heard)


class MemoryOutcomes:
    """Implements the port `OutcomeCleaning`, by the clock of the world."""

    def __init__(self, tables: Tables, interruptions: Interruptions, clock: Clock) -> None:
        """Clean `tables`."""
        self._tables = tables
        self._interruptions = interruptions
        self._clock = clock

    async def cleanup_expired(self, limit: int) -> int:
        """Forget up to `limit` outcomes whose time is over, the oldest first; return how many."""
        with self._interruptions.around("outcomes.cleanup_expired"):
            now = self._clock().timestamp()
            rows = self._tables.outcomes
            expired = [name for name, row in rows.items() if row.expires_at < now]
            expired.sort(key=lambda name: rows[name].expires_at)
            for name in expired[:limit]:
                del rows[name]
            return len(expired[:limit])


class MemoryHints:
    """Implements the port `Hints`: the same for all who share it.

    `ids` may be changed by a test: hints forget, and they lie.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.ids: set[UUID] = set()

    async def seen(self, ids: Collection[UUID]) -> set[UUID]:
        """Return those of `ids` that it holds."""
        return self.ids.intersection(ids)

    def remember(self, ids: Iterable[UUID]) -> None:
        """Hold `ids`."""
        self.ids.update(ids)
