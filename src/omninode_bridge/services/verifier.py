"""Folds the whole history again and compares: hashes, chains, states, projections (R14).

Rule 1: short snapshots. Entries are read in pages, and whatever is compared within a page is read
        in the page's own snapshot, so that a live database is verified without holding it up. A
        key that is created where we have read past is left to the next verification.
Rule 2: a reducer version that is not registered cannot be folded again; its chain is checked, the
        rest of that key's folds are left out, and it is reported.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from omninode_bridge.core.reducer import (
    NEVER_SEEN,
    Absorbed,
    KeyType,
    SealedProjection,
    Snapshot,
    fold,
    next_chain,
)
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import asyncpg

    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "verifier.sql")

PAGE_ENTRIES: Final = 2_000
MISMATCHES_MAX: Final = 1_000


@dataclass(slots=True)
class Verification:
    """What was looked at and what was found. `mismatches` are bounded; the count is not.

    A mismatch is `{"workflow_key", "version", "what", "expected", "actual"}`. `unregistered` counts
    the entries of each reducer version that could not be folded again, as `type@version`.
    """

    keys: int = 0
    actions: int = 0
    mismatches: list[dict[str, Any]] = field(default_factory=list)
    mismatches_found: int = 0
    unregistered: dict[str, int] = field(default_factory=dict)

    def differs(
        self, workflow_key: str, version: int, what: str, expected: object, actual: object
    ) -> None:
        """Note one mismatch."""
        self.mismatches_found += 1
        if len(self.mismatches) < MISMATCHES_MAX:
            self.mismatches.append(
                {
                    "workflow_key": workflow_key,
                    "version": version,
                    "what": what,
                    "expected": expected,
                    "actual": actual,
                }
            )


@dataclass(slots=True)
class _KeyInHand:
    """The fold of the key whose entries are being read. `foldable`: its state is known."""

    workflow_key: str
    partition: int = 0
    offset: int = 0
    snapshot: Snapshot = NEVER_SEEN
    foldable: bool = True
    result_hash: str = ""
    view: tuple[SealedProjection, str, Any] | None = None


class VerifierService:
    """Verifies a database, live or not."""

    def __init__(
        self, database: Database, codec: Codec, versions: Mapping[tuple[str, int], KeyType]
    ) -> None:
        """`versions` are the registered reducers, by key type and version."""
        self._database = database
        self._codec = codec
        self._versions = versions
        self._highest: dict[str, KeyType] = {}
        for (name, version), key_type in versions.items():
            if name not in self._highest or version > self._highest[name].version:
                self._highest[name] = key_type

    async def verify(self, progress: Callable[[Verification], None]) -> Verification:
        """Fold everything once; `progress` is told after each page."""
        found = Verification()
        in_hand: _KeyInHand | None = None
        after: tuple[str, int] = ("", 0)
        done_upto = ""
        more = True
        while more:
            async with self._database.transaction(
                isolation="repeatable_read", readonly=True
            ) as connection:
                rows = await connection.fetch(SQL["read_entries"], *after, PAGE_ENTRIES)
                more = len(rows) == PAGE_ENTRIES
                ended: list[_KeyInHand] = []
                for row in rows:
                    if in_hand is None or in_hand.workflow_key != row["workflow_key"]:
                        if in_hand is not None:
                            ended.append(in_hand)
                        in_hand = _KeyInHand(row["workflow_key"])
                        found.keys += 1
                    self._entry(in_hand, row, found)
                if not more and in_hand is not None:
                    ended.append(in_hand)
                upto = ended[-1].workflow_key if ended and more else None
                if ended or not more:
                    await self._compare(connection, ended, (done_upto, upto), found)
                    done_upto = upto or done_upto
                if rows:
                    after = (rows[-1]["workflow_key"], rows[-1]["version"])
            progress(found)
        return found

    def _entry(self, key: _KeyInHand, row: asyncpg.Record, found: Verification) -> None:
        """Fold one entry and compare what it says of itself."""
        found.actions += 1
        name, version = key.workflow_key, row["version"]
        entry = orjson.loads(row["body"])
        action = wire.read_action(entry["action"], self._codec)
        if version != key.snapshot.version + 1:
            found.differs(name, version, "version", key.snapshot.version + 1, version)
        reducer_version = entry["reducer_version"]
        chain = next_chain(key.snapshot.chain, action, reducer_version, entry["result_hash"])
        if chain != entry["chain"]:
            found.differs(name, version, "chain", chain, entry["chain"])
        projection = wire.read_projection(entry["projection"], self._codec)
        registered = self._registered(name, reducer_version, found)
        state = None
        if registered is not None and key.foldable:
            state = self._fold(key, action, registered, (entry, row["committed_at"]), found)
        key.foldable = state is not None
        key.snapshot = Snapshot(
            version,
            state or b"{}",
            entry["chain"],
            entry.get("epoch", key.snapshot.epoch),
            None,
        )
        key.partition, key.offset = row["partition"], row["offset"]
        key.result_hash = entry["result_hash"]
        key.view = (projection, action.type, row["committed_at"])

    def _registered(
        self, workflow_key: str, reducer_version: int, found: Verification
    ) -> KeyType | None:
        """Return the reducer that made an entry; note it when nobody registered it."""
        kind = workflow_key.partition(":")[0]
        if reducer_version == 0:  # a replaced state was folded by the bridge itself
            return self._highest.get(kind)
        registered = self._versions.get((kind, reducer_version))
        if registered is None:
            label = f"{kind}@{reducer_version}"
            found.unregistered[label] = found.unregistered.get(label, 0) + 1
        return registered

    def _fold(
        self,
        key: _KeyInHand,
        action: SealedAction,
        registered: KeyType,
        logged: tuple[dict[str, Any], datetime],
        found: Verification,
    ) -> bytes | None:
        """Return the state that the entry leads to, or None when it can no longer be known."""
        entry, committed_at = logged
        name, kind, version = key.workflow_key, registered.name, key.snapshot.version + 1
        unfenced = KeyType(kind, registered.version, registered.reduce, registered.project)
        _, (step,) = fold(key.snapshot, [action], unfenced, self._codec, committed_at)
        if not isinstance(step, Absorbed):
            found.differs(name, version, "outcome", "StateCommitted", step.detail)
            return None
        if step.result_hash != entry["result_hash"]:
            found.differs(name, version, "result_hash", step.result_hash, entry["result_hash"])
        projection = wire.read_projection(entry["projection"], self._codec)
        # A projection has no version of its own: it belongs to the highest reducer version.
        if registered is self._highest[kind] and step.projection != projection:
            expected, actual = _shown(step.projection), _shown(projection)
            found.differs(name, version, "logged projection", expected, actual)
        return step.snapshot.state

    async def _compare(
        self,
        connection: asyncpg.Connection,
        ended: list[_KeyInHand],
        between: tuple[str, str | None],
        found: Verification,
    ) -> None:
        """Compare states and projections of the keys in a range with what the folds led to."""
        rows = await connection.fetch(SQL["read_states"], *between)
        states = {row["workflow_key"]: row for row in rows}
        rows = await connection.fetch(SQL["read_projections"], *between)
        projections = {row["workflow_key"]: row for row in rows}
        watermarks = dict(await connection.fetch(SQL["watermarks"]))
        for key in ended:
            self._compare_state(key, states.pop(key.workflow_key, None), found)
            projected = projections.pop(key.workflow_key, None)
            await self._compare_projection(
                connection, key, projected, watermarks[key.partition], found
            )
        # Of the keys in the range that nobody folded, some were created when we had read past their
        # place, and have their history.
        for what, left, actual in (
            ("state without history", states, "a state"),
            ("projection without history", projections, "a row"),
        ):
            for name, row in left.items():
                if await connection.fetchrow(SQL["read_entry"], name, row["version"]) is None:
                    found.differs(name, row["version"], what, None, actual)

    def _compare_state(
        self, key: _KeyInHand, row: asyncpg.Record | None, found: Verification
    ) -> None:
        name, version = key.workflow_key, key.snapshot.version
        if row is None:
            found.differs(name, version, "state", "a state", None)
            return
        if row["version"] != version:
            found.differs(name, version, "state version", version, row["version"])
        state = self._codec.encode(orjson.loads(row["state"]))
        actual_hash = hashlib.sha256(state).hexdigest()
        if actual_hash != key.result_hash:
            found.differs(name, version, "state", key.result_hash, actual_hash)
        if row["chain"] != key.snapshot.chain:
            found.differs(name, version, "state chain", key.snapshot.chain, row["chain"])

    async def _compare_projection(
        self,
        connection: asyncpg.Connection,
        key: _KeyInHand,
        row: asyncpg.Record | None,
        watermark: int,
        found: Verification,
    ) -> None:
        """At the watermark, the row is the projection of the last entry below it (R7)."""
        name, last = key.workflow_key, key.snapshot.version
        shown = 0 if row is None else row["version"]
        view = key.view
        if shown < last:
            following = await connection.fetchrow(SQL["read_entry"], name, shown + 1)
            if following is not None and following["offset"] < watermark:
                found.differs(name, shown + 1, "projection behind its watermark", shown + 1, shown)
            entry = await connection.fetchrow(SQL["read_entry"], name, shown) if shown else None
            view = None
            if entry is not None:
                body = orjson.loads(entry["body"])
                projection = wire.read_projection(body["projection"], self._codec)
                view = (projection, body["action"]["type"], entry["committed_at"])
        elif shown > last or key.offset >= watermark:
            found.differs(name, shown, "projection ahead of its watermark", last, shown)
        if row is None or view is None or shown > last:
            return
        expected = (_shown(view[0]), view[1], view[2].isoformat())
        sealed = SealedProjection(
            row["tag"], row["namespace"], self._sealed(row["indices"]), self._sealed(row["extras"])
        )
        actual = (_shown(sealed), row["last_action"], row["updated_at"].isoformat())
        if expected != actual:
            found.differs(name, shown, "projection", expected, actual)

    def _sealed(self, text: str | None) -> bytes | None:
        return None if text is None else self._codec.encode(orjson.loads(text))


def _shown(projection: SealedProjection) -> dict[str, Any]:
    return {
        "tag": projection.tag,
        "namespace": projection.namespace,
        "indices": None if projection.indices is None else projection.indices.decode(),
        "extras": None if projection.extras is None else projection.extras.decode(),
    }
