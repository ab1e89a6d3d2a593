"""What must not grow for ever."""

from __future__ import annotations

from typing import Protocol


class OutcomeCleaning(Protocol):
    """Remembered outcomes must not grow for ever."""

    async def cleanup_expired(self, limit: int) -> int:
        """Forget up to `limit` outcomes whose time is over; return how many."""
        ...


class SegmentCleaning(Protocol):
    """Transient topics must not grow for ever."""

    async def drop_segments(self, topic: str, partition: int) -> int:
        """Drop the whole segments that lie behind all registered consumers; return how many."""
        ...
