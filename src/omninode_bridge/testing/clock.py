"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)


class SettableClock:
    """Implements the port `Clock`: call it for the time. The same for all who share it."""

    def __init__(self, now: datetime = NOON) -> None:
        """Begin at `now`, which needs a time zone."""
        assert now.tzinfo is not None, "a time without a zone is no moment"
        self._now = now

    def __call__(self) -> datetime:
        """Return the time it was set to."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Let `by` pass."""
        self._now += by
