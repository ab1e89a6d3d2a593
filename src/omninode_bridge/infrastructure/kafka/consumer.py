"""Reads partitions from the positions it is told, without ever holding the event loop.

Rule 1: every call of the library's consumer is made on one thread. It takes orders between two of
        them, so what it fetches after an order belongs to what was ordered.
Rule 2: what is fetched and not yet read is bounded for each partition (R13): one that is read too
        slowly is paused, and its neighbours go on.
Rule 3: it never seeks by itself: a position that is not there is an error (`auto.offset.reset`).

`consume(n, t)` waits for all of t unless it is full: so one message is waited for, and the rest is
what is there already.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from omninode_bridge.core.observation import LoopStumbled, Observe, ignore
from omninode_bridge.infrastructure.kafka.message import Message
from omninode_bridge.infrastructure.kafka.reading import Fetched, Reading
from omninode_bridge.infrastructure.kafka.translation import bus_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Message as LibraryMessage

FETCH_MAX: Final = 1_000
FETCH_WAIT_MS: Final = 100
POLL_S: Final = 0.05
IDLE_S: Final = 0.5
QUEUED_KILOBYTES_MAX: Final = 16_384

_Place = tuple[str, int]


class KafkaConsumer:
    """A consumer of this process, which belongs to no group. Use as an async context manager."""

    def __init__(
        self, settings: Mapping[str, Any], *, group: str, observe: Observe = ignore
    ) -> None:
        """`settings` are the library's; hints for lag tools are committed for `group`."""
        self._settings = dict(settings) | {
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            # Of a transaction that its producer gave up nothing is read.
            "isolation.level": "read_committed",
            "fetch.min.bytes": 1,
            # Whoever is assigned a partition waits for what is asked for already.
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "queued.max.messages.kbytes": QUEUED_KILOBYTES_MAX,
            "error_cb": self._stumbled,
        }
        self._observe = observe
        self._attempt = 0
        self._orders: SimpleQueue[Callable[[Consumer], None]] = SimpleQueue()
        self._readings: dict[_Place, Reading] = {}  # the thread's own
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        """Begin with no partition."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="kafka consumer", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Read no more."""
        assert self._thread is not None
        self._closing.set()
        self._orders.put(lambda _: None)
        await asyncio.to_thread(self._thread.join)

    def read_from(self, topic: str, partition: int, position: int) -> Reading:
        """Begin to read a partition at `position`: an offset, or -1 for what comes from now on.

        It takes the place of whoever read the partition here before.
        """
        place = (topic, partition)
        reading = Reading(
            topic,
            partition,
            position,
            drained=lambda reading: self._orders.put(lambda client: self._resume(client, reading)),
            closed=lambda reading: self._orders.put(lambda client: self._let_go(client, reading)),
        )
        self._orders.put(lambda client: self._assign(client, place, reading))
        return reading

    def tell_position(self, topic: str, partition: int, position: int) -> None:
        """Commit a position as a hint for those who look at lag; nothing depends on it."""

        def commit(client: Consumer) -> None:
            with suppress(KafkaException):
                client.commit(
                    offsets=[TopicPartition(topic, partition, position)], asynchronous=True
                )

        self._orders.put(commit)

    # -- on the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closing.is_set():
            client = Consumer(self._settings)
            try:
                self._work_with(client)
            except KafkaException as error:
                self._fail_all(error)
            except BaseException as error:
                self._fail_all(error)
                raise
            finally:
                client.close()

    def _work_with(self, client: Consumer) -> None:
        while not self._closing.is_set():
            self._take_orders(client)
            if self._readings:
                self._fetch(client)

    def _fail_all(self, error: BaseException) -> None:
        """Let all who read hear that they have to begin anew: this client does not know its own."""
        failed = KafkaError(KafkaError._FAIL, f"the consumer failed: {error}")  # noqa: SLF001
        readings = list(self._readings.values())
        self._readings.clear()
        for reading in readings:
            self._put(reading, [], failed)

    def _take_orders(self, client: Consumer) -> None:
        """Do what was ordered; wait for an order when there is nothing to fetch."""
        with suppress(Empty):
            if not self._readings:
                self._orders.get(timeout=IDLE_S)(client)
            while True:
                self._orders.get_nowait()(client)

    def _assign(self, client: Consumer, place: _Place, reading: Reading) -> None:
        self._unassign(client, place)
        if reading.is_closed:
            return
        try:
            # The offset stands in the assignment: a seek right after it would fail.
            client.incremental_assign([TopicPartition(*place, reading.position)])
        except KafkaException as error:
            self._put(reading, [], error.args[0])
        else:
            self._readings[place] = reading

    def _let_go(self, client: Consumer, reading: Reading) -> None:
        place = (reading.topic, reading.partition)
        if self._readings.get(place) is reading:
            self._unassign(client, place)

    def _unassign(self, client: Consumer, place: _Place) -> None:
        if self._readings.pop(place, None) is not None:
            # What is assigned anew would still be paused.
            client.resume([TopicPartition(*place)])
            client.incremental_unassign([TopicPartition(*place)])

    def _resume(self, client: Consumer, reading: Reading) -> None:
        place = (reading.topic, reading.partition)
        if self._readings.get(place) is reading and reading.resume():
            client.resume([TopicPartition(*place)])

    def _fetch(self, client: Consumer) -> None:
        messages = client.consume(1, POLL_S)
        if messages:
            messages += client.consume(FETCH_MAX - 1, 0)
            self._attempt = 0
        by_place: dict[_Place, list[LibraryMessage]] = {}
        for message in messages:
            topic, partition = message.topic(), message.partition()
            if topic is not None and partition is not None:
                by_place.setdefault((topic, partition), []).append(message)
        for place, theirs in by_place.items():
            reading = self._readings.get(place)
            if reading is None:
                continue
            errors = [error for each in theirs if (error := each.error()) is not None]
            if self._put(reading, _fetched(theirs), errors[0] if errors else None):
                client.pause([TopicPartition(*place)])
            if errors:
                self._let_go(client, reading)

    def _put(self, reading: Reading, fetched: list[Fetched], error: KafkaError | None) -> bool:
        is_full = reading.put(fetched, error)
        self._call(reading.look)
        return is_full

    def _call(self, what: Callable[[], None]) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended, and all who waited with it
            self._loop.call_soon_threadsafe(what)

    def _stumbled(self, error: KafkaError) -> None:
        self._attempt += 1
        fact = LoopStumbled("kafka consumer", None, self._attempt, bus_error("reading", error))
        self._call(lambda: self._observe(fact))


def _fetched(messages: Iterable[LibraryMessage]) -> list[Fetched]:
    """Return those before the first error."""
    fetched: list[Fetched] = []
    for message in messages:
        offset = message.offset()
        if message.error() is not None or offset is None:
            break
        # Of what was received the library makes a list, whatever else its types allow.
        said = cast("list[tuple[str, str | bytes | None]]", message.headers() or [])
        headers = tuple([(name, _bytes(value)) for name, value in said])
        read = Message(_bytes(message.key()), _bytes(message.value()), headers)
        fetched.append(Fetched(offset, read, read.size()))
    return fetched


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
