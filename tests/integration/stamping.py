"""A folder of files, what its totals have to be, and what a bridge says they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from omninode_bridge.stamping.content_types import content_type_of

if TYPE_CHECKING:
    from pathlib import Path

    from omninode_bridge import Bridge

NOTHING: dict[str, Any] = {}


def write(folder: Path, name: str, content: str | bytes) -> None:
    """Make or replace one file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def hash_of(content: str | bytes) -> str:
    """Return what a stamp says of `content`."""
    return blake3(content.encode() if isinstance(content, str) else content).hexdigest()


def totals_on_disk(folder: Path, total_stamps: int) -> dict[str, Any]:
    """Return what the totals have to be when every regular file of `folder` is stamped."""
    content_types: dict[str, dict[str, int]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            share = content_types.setdefault(content_type_of(name), {"files": 0, "bytes": 0})
            share["files"] += 1
            share["bytes"] += (folder / parent / name).stat().st_size
    return {
        "files": sum(share["files"] for share in content_types.values()),
        "total_stamps": total_stamps,
        "total_size_bytes": sum(share["bytes"] for share in content_types.values()),
        "content_types": content_types,
    }


async def totals_of(bridge: Bridge, namespace: str) -> dict[str, Any]:
    """Return the totals as they are committed; they have to be projected as well."""
    key = f"namespace:{namespace}"
    state = await bridge.state(key)
    row = await bridge.read(key)
    if state is None:
        assert row is None
        return NOTHING
    assert row is not None
    assert (row.version, row.tag, row.namespace) == (state.version, "totals", namespace)
    assert row.indices == {
        what: state.state[what] for what in ("files", "total_stamps", "total_size_bytes")
    }
    return state.state


async def committed_in_all(bridge: Bridge) -> int:
    """Return how many actions are in the history, every one of which folds as it did."""
    verification = await bridge.verify()
    assert verification.mismatches == []
    return verification.actions
