"""The truth: states and their history on PostgreSQL, changed by one function only.

Rule 1: there is one commit path. The worker, the store effect's door and the direct path all come
        through `commit`, and all serialise on the partition's row (proof: migration 009).
Rule 2: a refusal is a value and has written nothing; a lost connection is *unknown*, and is
        resolved by `locked(...).recall(...)`.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import orjson

from omninode_bridge.core.commit import Accepted, Refusal
from omninode_bridge.core.message import FSM_STATE_TRANSITIONED, content_hash
from omninode_bridge.core.reducer import Absorbed, Snapshot, seal_reply
from omninode_bridge.core.sharing import LEASE
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.entities import ModelWorkflowState
from omninode_bridge.infrastructure.postgres.database import plain_uuid
from omninode_bridge.infrastructure.postgres.rows import columns
from omninode_bridge.infrastructure.postgres.statements import Statements
from omninode_bridge.infrastructure.state_replacement import replace_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from datetime import timedelta

    import asyncpg

    from omninode_bridge.core.commit import ActionName, Commit, Remembered
    from omninode_bridge.core.message import (
        Provenance,
        ReducerGaveUp,
        StateCommitted,
        StateConflict,
    )
    from omninode_bridge.core.reducer import Codec, KeyType, SealedIntent
    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "canonical_store.sql")

SEGMENT_ENTRIES: Final = 200_000


class CanonicalStoreService:
    """Reads and commits states. Implements the ports `CanonicalStore` and `RememberedOutcomes`.

    `key_types` and `partitions` are needed by `try_commit` alone, which folds by itself.
    Each commit that shows an owner's token lengthens its lease to `lease` from now.
    """

    def __init__(
        self,
        database: Database,
        codec: Codec,
        *,
        partitions: int,
        key_types: Mapping[str, KeyType] | None = None,
        lease: timedelta = LEASE,
        segment_entries: int = SEGMENT_ENTRIES,
        incarnation: UUID | None = None,
    ) -> None:
        """`segment_entries` is how many intents a segment of their log holds.

        `incarnation` is of the log that has these `partitions`; None: it is not checked.
        """
        self._database = database
        self._codec = codec
        self._partitions = partitions
        self._key_types = key_types or {}
        self._lease = lease
        self._segment_entries = segment_entries
        self._incarnation = incarnation

    async def get_state(self, workflow_key: str) -> ModelWorkflowState | None:
        """Return the canonical row of `workflow_key`, or None for a key never seen."""
        row = await self._database.fetchrow(SQL["read_row"], workflow_key)
        if row is None:
            return None
        return ModelWorkflowState(
            workflow_key=row["workflow_key"],
            version=row["version"],
            state=orjson.loads(row["state"]),
            updated_at=row["updated_at"],
            schema_version=row["schema_version"],
            provenance=orjson.loads(row["provenance"]),
        )

    async def read(self, keys: Iterable[str]) -> dict[str, Snapshot]:
        """Return the snapshots of `keys`; keys never seen are absent."""
        async with self._database.connection() as connection:
            return await _Locked(self, connection).read(keys)

    async def commit(self, commit: Commit) -> Accepted | Refusal:
        """Make the batch durable in one round trip (R2), or say why nothing was written.

        Raises:
            DatabaseUnavailable: the connection was lost: committed or not is unknown.
            ValueRefused: the database refused a value; nothing was written.
            PartitionsChanged: a commit beside the owner, by a number of partitions that is past.
        """
        async with self._database.connection() as connection:
            result = await _Locked(self, connection).try_it(commit)
            if isinstance(result, Refusal) and result.known:
                names = list(result.known)
                known = await _Locked(self, connection).recall(names)
                return replace(result, known=known)
            return result

    async def recall(
        self,
        partition: int,  # noqa: ARG002 - others look there; here a key's entries are found by the key
        names: Iterable[ActionName],
    ) -> dict[ActionName, Remembered]:
        """Return the remembered outcomes among `names`, without the partition's lock.

        An outcome and its log entry are committed together, and one statement reads both: whatever
        is found is whole and final (R3). What is not found may be under way.
        """
        async with self._database.connection() as connection:
            return await _Locked(self, connection).recall(names)

    @asynccontextmanager
    async def locked(self, partition: int) -> AsyncIterator[_Locked]:
        """Hold the partition's row in one transaction, which ends with the context.

        The server ends it when we are silent for longer than a lease, as if we were cut off.
        """
        silence_ms = str(round(self._lease.total_seconds() * 1000))
        async with self._database.transaction() as connection:
            await connection.fetchval(SQL["lock_partition"], partition, silence_ms)
            yield _Locked(self, connection)

    async def try_commit(
        self,
        workflow_key: str,
        expected_version: int,
        state_prime: Mapping[str, Any],
        provenance: Provenance | None = None,
    ) -> StateCommitted | StateConflict | ReducerGaveUp:
        """Replace the state of one key if it is still at `expected_version` (0: never seen).

        Commits a `StateReplaced` action through the same path as everything else. `provenance`
        gives the action its id, time, epoch, lease and correlation; without it they are made.

        Raises:
            ValueError: `state_prime` is not JSON, its projection fails, or the key's type has none.
            InvalidAction: a malformed `workflow_key`, or the id in `provenance` is somebody else's.
        """
        return await replace_state(
            self,
            workflow_key,
            expected_version,
            state_prime,
            provenance,
            key_types=self._key_types,
            partitions=self._partitions,
            codec=self._codec,
            clock=lambda: datetime.now(UTC),
            new_id=uuid4,
        )

    def arguments(self, commit: Commit) -> tuple[object, ...]:
        """Return the arguments of the commit function: columns, in the order of migration 009."""
        states: dict[str, Absorbed] = {}
        entries: list[tuple[object, ...]] = []
        gave_ups: list[tuple[object, ...]] = []
        intents: list[tuple[object, ...]] = []
        transitions: list[tuple[object, ...]] = []
        for step in commit.steps:
            action = step.action
            key, action_id = action.workflow_key, action.action_id
            request_hash = content_hash(action.type, action.payload)
            if isinstance(step, Absorbed):
                states[key] = step
                entries.append(
                    (
                        key,
                        step.snapshot.version,
                        action_id,
                        request_hash,
                        step.result_hash,
                        action.remember_s,
                        wire.committed_text(step, commit),
                    )
                )
                for intent in step.intents:
                    if intent.intent_type == FSM_STATE_TRANSITIONED:
                        transitions.append((key, action_id, wire.transition_text(intent, step)))
                    else:
                        intents.append(_intent_row(intent, step))
                if action.reply_to is not None:
                    outcome = {"event": "StateCommitted", "version": step.snapshot.version}
                    intents.append(self._reply_row(step, outcome))
            else:
                outcome = wire.gave_up_fields(step, commit.attempts)
                text = orjson.dumps(outcome)
                gave_ups.append(
                    (
                        key,
                        step.version,
                        action_id,
                        request_hash,
                        hashlib.sha256(text).hexdigest(),
                        action.remember_s,
                        text.decode(),
                        wire.gave_up_text(step, commit),
                    )
                )
                if action.reply_to is not None:
                    intents.append(self._reply_row(step, outcome))
        position = commit.position
        redriven = [step.action for step in commit.steps if step.action.purpose == "redrive"]
        return (
            commit.partition,
            commit.owner,
            self._lease,
            commit.committed_at,
            self._segment_entries,
            None if position is None else position.expected,
            None if position is None else position.next,
            list(commit.reads),
            list(commit.reads.values()),
            list(states),
            [step.snapshot.version for step in states.values()],
            [step.snapshot.state.decode() for step in states.values()],
            [step.reducer_version or 1 for step in states.values()],
            [wire.provenance_text(step, commit) for step in states.values()],
            *columns(entries, 7),
            *columns(gave_ups, 8),
            *columns(intents, 6),
            *columns(transitions, 3),
            [action.workflow_key for action in redriven],
            [action.action_id for action in redriven],
            self._incarnation,
        )

    def _reply_row(self, step: Any, outcome: dict[str, Any]) -> tuple[object, ...]:  # noqa: ANN401
        action = step.action
        fields = wire.reply_fields(action.workflow_key, action.action_id, outcome)
        return _intent_row(seal_reply(action, fields, self._codec), step)

    def snapshot_of(self, row: asyncpg.Record) -> Snapshot:
        """Return the snapshot that a row of `read_snapshots` tells of."""
        state = self._codec.encode(orjson.loads(row["state"]))
        lease_id = row["lease_id"]
        return Snapshot(
            row["version"],
            state,
            row["chain"],
            row["epoch"],
            None if lease_id is None else plain_uuid(lease_id),
        )


class _Locked:
    """The store on one connection, or inside a transaction that holds a partition's row."""

    def __init__(self, store: CanonicalStoreService, connection: asyncpg.Connection) -> None:
        self._store = store
        self._connection = connection

    async def read(self, keys: Iterable[str]) -> dict[str, Snapshot]:
        rows = await self._connection.fetch(SQL["read_snapshots"], list(keys))
        return {row["workflow_key"]: self._store.snapshot_of(row) for row in rows}

    async def recall(self, names: Iterable[ActionName]) -> dict[ActionName, Remembered]:
        asked = list(names)
        keys, ids = [key for key, _ in asked], [action_id for _, action_id in asked]
        rows = await self._connection.fetch(SQL["recall"], keys, ids)
        return {
            (row["workflow_key"], plain_uuid(row["action_id"])): _remembered(row) for row in rows
        }

    async def commit(self, commit: Commit) -> Accepted | Refusal:
        result = await self.try_it(commit)
        if isinstance(result, Refusal) and result.known:
            return replace(result, known=await self.recall(result.known))
        return result

    async def try_it(self, commit: Commit) -> Accepted | Refusal:
        arguments = self._store.arguments(commit)
        row = await self._connection.fetchrow(SQL["commit"], *arguments)
        if row["refusal"] is None:
            return Accepted(
                row["state_committed_first"], row["reducer_gave_up_first"], row["intent_first"]
            )
        reasons = orjson.loads(row["refusal"])
        unnamed: Any = None  # the outcomes are read by the caller, with the names found here
        return Refusal(
            not_owner=reasons.get("not_owner", False),
            moved=reasons.get("moved", False),
            stale=reasons.get("stale", {}),
            known={(key, UUID(action_id)): unnamed for key, action_id in reasons.get("known", ())},
        )


def _remembered(row: asyncpg.Record) -> Remembered:
    entry = row["entry"]
    return wire.read_remembered(
        row["workflow_key"],
        plain_uuid(row["action_id"]),
        row["request_hash"],
        row["version"],
        orjson.loads(row["outcome"]),
        None if entry is None else (orjson.loads(entry), row["committed_at"]),
    )


def _intent_row(intent: SealedIntent, step: Any) -> tuple[object, ...]:  # noqa: ANN401
    action = step.action
    return (
        intent.intent_id,
        intent.intent_type,
        intent.target,
        action.workflow_key,
        action.action_id,
        wire.intent_text(intent, step),
    )
