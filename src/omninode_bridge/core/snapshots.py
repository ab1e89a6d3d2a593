"""What a worker remembers of keys between folds: canonical bytes, bounded twice (R13)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from omninode_bridge.core.reducer import Snapshot

KEYS_MAX: Final = 10_000
BYTES_MAX: Final = 16 * 1_048_576


class SnapshotCache:
    """The least recently used snapshot goes first. Owned by one worker; never shared."""

    def __init__(self, keys_max: int = KEYS_MAX, bytes_max: int = BYTES_MAX) -> None:
        """Hold at most `keys_max` keys, and at most `bytes_max` bytes of states."""
        self._keys_max = keys_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are held."""
        return len(self._snapshots)

    @property
    def state_bytes(self) -> int:
        """How many bytes the held states have together."""
        return self._bytes

    def get(self, workflow_key: str) -> Snapshot | None:
        """Return the snapshot of `workflow_key`, or None when it is not held."""
        snapshot = self._snapshots.get(workflow_key)
        if snapshot is not None:
            self._snapshots.move_to_end(workflow_key)
        return snapshot

    def put(self, workflow_key: str, snapshot: Snapshot) -> None:
        """Hold `snapshot`; others may have to go."""
        self.drop(workflow_key)
        self._snapshots[workflow_key] = snapshot
        self._bytes += len(snapshot.state)
        while len(self._snapshots) > self._keys_max or self._bytes > self._bytes_max:
            _, oldest = self._snapshots.popitem(last=False)
            self._bytes -= len(oldest.state)

    def drop(self, workflow_key: str) -> None:
        """Hold `workflow_key` no longer."""
        snapshot = self._snapshots.pop(workflow_key, None)
        if snapshot is not None:
            self._bytes -= len(snapshot.state)

    def clear(self) -> None:
        """Hold nothing."""
        self._snapshots.clear()
        self._bytes = 0
