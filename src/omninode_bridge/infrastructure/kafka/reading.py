"""What was fetched of one partition, between the thread that fetches and the loop that reads."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError

from omninode_bridge.core.errors import MessagesLost
from omninode_bridge.infrastructure.kafka.translation import bus_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from omninode_bridge.core.errors import BridgeError
    from omninode_bridge.infrastructure.kafka.message import Message

MESSAGES_MAX: Final = 2_000
BYTES_MAX: Final = 16 * 1_048_576


@dataclass(frozen=True, slots=True)
class Fetched:
    """A message and where it stood, and how many bytes it has: that is asked for more than once."""

    offset: int
    message: Message
    size: int


class Reading:
    """One partition from one position on, until it is closed or has failed.

    `position` is where it begins; each reading is for one reader.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        position: int,
        *,
        drained: Callable[[Reading], None],
        closed: Callable[[Reading], None],
    ) -> None:
        """`drained`: there is room again after it was full; `closed`: nobody reads any more."""
        self.topic = topic
        self.partition = partition
        self.position = position
        self.is_closed = False
        self._drained = drained
        self._closed = closed
        self._lock = threading.Lock()
        self._fetched: deque[Fetched] = deque()
        self._bytes = 0
        self._is_full = False
        self._error: KafkaError | None = None
        self._arrived = asyncio.Event()

    async def read(self, limit: int, wait_s: float) -> list[Fetched]:
        """Return up to `limit` messages in order; none, when none has come within `wait_s`.

        Raises:
            MessagesLost: what stood at the position is gone, or the log ends before it.
            BusUnavailable, BusRefused: it has failed; a new one may do better.
        """
        taken = self._take(limit)
        if not taken:
            try:
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
            taken = self._take(limit)
        if taken:
            self.position = taken[-1].offset + 1
        elif self._error is not None:
            raise self._translated(self._error)
        return taken

    def close(self) -> None:
        """Read no more."""
        if not self.is_closed:
            self.is_closed = True
            self._closed(self)

    def put(self, fetched: list[Fetched], error: KafkaError | None) -> bool:
        """Add what was fetched, and the error behind it; return whether it has become full.

        For the thread that fetches.
        """
        with self._lock:
            self._fetched.extend(fetched)
            self._bytes += sum([each.size for each in fetched])
            self._error = self._error or error
            was_full, self._is_full = self._is_full, self._is_full or self._has_enough(1)
            return self._is_full and not was_full

    def resume(self) -> bool:
        """Take more; return whether it was full, and has room. For the thread that fetches."""
        with self._lock:
            if not self._is_full or self._has_enough(2):
                return False
            self._is_full = False
            return True

    def look(self) -> None:
        """Wake whoever reads. For the loop."""
        self._arrived.set()

    def _take(self, limit: int) -> list[Fetched]:
        with self._lock:
            taken = [self._fetched.popleft() for _ in range(min(limit, len(self._fetched)))]
            self._bytes -= sum([each.size for each in taken])
            if not self._fetched and self._error is None:
                self._arrived.clear()
            has_room = self._is_full and not self._has_enough(2)
        if has_room:
            self._drained(self)
        return taken

    def _has_enough(self, part: int) -> bool:
        """Return whether so much is waiting, or the second (`part` 2) part of it."""
        return len(self._fetched) * part >= MESSAGES_MAX or self._bytes * part >= BYTES_MAX

    def _translated(self, error: KafkaError) -> BridgeError:
        gone = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001
        if error.code() in gone:
            return MessagesLost(self.topic, self.partition, self.position, error.str())
        return bus_error(f"reading {self.topic}/{self.partition}", error)
