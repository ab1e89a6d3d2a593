"""Sends messages, confirmed by all replicas and once each, without ever holding the event loop.

Rule 1: the library's `produce` only queues, and is called here; its `poll`, which waits, has a
        thread of its own, and hands over what was confirmed by `call_soon_threadsafe`.
Rule 2: its queue is bounded (R13): when it is full, senders wait their turn.
Rule 3: there is no time limit on a message (`message.timeout.ms=0`): one that was dropped from the
        middle would let those behind it arrive before its repeat. Whoever gives up waiting knows
        nothing: it may arrive yet.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from omninode_bridge.core.errors import BusUnavailable
from omninode_bridge.core.observation import LoopStumbled, Observe, ignore
from omninode_bridge.infrastructure.kafka.topic_specs import PERSIST_BYTES_MAX
from omninode_bridge.infrastructure.kafka.translation import bus_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omninode_bridge.infrastructure.kafka.message import Message

QUEUED_MAX: Final = 20_000
QUEUED_KILOBYTES_MAX: Final = 65_536
LINGER_MS: Final = 1
POLL_S: Final = 0.1
CLOSE_WAIT_S: Final = 5.0


class _Sending:
    """Some messages on their way; told of each by the library, on the polling thread."""

    def __init__(self, finished: deque[_Sending]) -> None:
        """Join `finished` when the last one is confirmed or has failed."""
        self._finished = finished
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lock = threading.Lock()
        self._open = 1  # until all are handed over
        self.error: KafkaError | None = None

    def handed_over(self) -> None:
        """Count one more that is on its way."""
        with self._lock:
            self._open += 1

    def delivered(self, error: KafkaError | None, _message: object) -> None:
        """Take the library's word for one message."""
        with self._lock:
            self.error = self.error or error
            self._open -= 1
            if self._open:
                return
        self._finished.append(self)

    def all_handed_over(self) -> bool:
        """Expect no more; return whether none is on its way."""
        with self._lock:
            self._open -= 1
            return self._open == 0


class KafkaProducer:
    """A producer of this process. Use as an async context manager."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        queued_max: int = QUEUED_MAX,
        close_wait_s: float = CLOSE_WAIT_S,
        observe: Observe = ignore,
    ) -> None:
        """`settings` are the library's; at most `queued_max` messages wait to be confirmed.

        What is queued at the end has `close_wait_s` seconds.
        """
        self._close_wait_s = close_wait_s
        self._settings = dict(settings) | {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "message.timeout.ms": 0,
            "linger.ms": LINGER_MS,
            "message.max.bytes": PERSIST_BYTES_MAX + 1_048_576,
            "queue.buffering.max.messages": queued_max,
            "queue.buffering.max.kbytes": QUEUED_KILOBYTES_MAX,
            "error_cb": self._stumbled,
        }
        self._observe = observe
        self._attempt = 0
        self._finished: deque[_Sending] = deque()
        self._retired: deque[Producer] = deque()
        self._room = asyncio.Event()
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Producer | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        """Begin; nobody need answer yet."""
        self._loop = asyncio.get_running_loop()
        self._client = Producer(self._settings)
        self._thread = threading.Thread(target=self._poll, name="kafka producer", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Send what is queued while there is time; what is left then is unknown."""
        assert self._thread is not None
        self._closing.set()
        await asyncio.to_thread(self._thread.join)

    async def send(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Return when all of `messages` are confirmed; they arrive in their order.

        Waits while the queue is full, and as long as nobody answers.

        Raises:
            BusUnavailable: some may be there, and some not: send them again.
            BusRefused: one of them can never be sent.
        """
        sending = _Sending(self._finished)
        what = f"sending to {topic}/{partition}"
        try:
            for message in messages:
                await self._hand_over(topic, partition, message, sending, what)
        finally:
            none_left = sending.all_handed_over()
        if none_left:
            if sending.error is not None:
                raise bus_error(what, sending.error)
            return
        await sending.future
        if sending.error is not None:
            raise bus_error(what, sending.error)

    async def _hand_over(
        self, topic: str, partition: int, message: Message, sending: _Sending, what: str
    ) -> None:
        while True:
            client = self._client
            if client is None or self._closing.is_set():
                raise BusUnavailable(f"{what}: the producer is closed")
            self._room.clear()
            sending.handed_over()
            try:
                client.produce(
                    topic,
                    message.value,
                    message.key,
                    partition,
                    on_delivery=sending.delivered,
                    headers=list(message.headers),
                )
            except BufferError:
                sending.delivered(None, None)
                await self._room.wait()
            except KafkaException as error:
                sending.delivered(None, None)
                found = error.args[0]
                if found.code() == KafkaError._FATAL:  # noqa: SLF001 - the library's own name
                    self._begin_again()
                raise bus_error(what, found) from error
            else:
                return

    def _begin_again(self) -> None:
        """Replace a client that will never send again: its order can no longer be kept."""
        assert self._client is not None
        self._retired.append(self._client)
        self._client = Producer(self._settings)

    # -- on the thread ----------------------------------------------------------------------------

    def _poll(self) -> None:
        """Let the library tell what was confirmed, until closed; then once more what is left."""
        while not self._closing.is_set():
            client = self._client
            assert client is not None
            client.poll(POLL_S)
            while self._retired:
                _drop_all(self._retired.popleft())
            self._tell()
        client = self._client
        assert client is not None
        client.flush(self._close_wait_s)
        _drop_all(client)
        self._client = None
        self._tell()

    def _tell(self) -> None:
        finished = [self._finished.popleft() for _ in range(len(self._finished))]
        self._call(lambda: self._told(finished))

    def _call(self, what: Any) -> None:  # noqa: ANN401 - a callback
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended, and all who waited with it
            self._loop.call_soon_threadsafe(what)

    def _stumbled(self, error: KafkaError) -> None:
        self._attempt += 1
        fact = LoopStumbled("kafka producer", None, self._attempt, bus_error("sending", error))
        self._call(lambda: self._observe(fact))

    # -- back in the loop -------------------------------------------------------------------------

    def _told(self, finished: list[_Sending]) -> None:
        self._room.set()
        for sending in finished:
            self._attempt = 0
            if not sending.future.done():
                sending.future.set_result(None)


def _drop_all(client: Producer) -> None:
    """Let whoever waits for a message that is not confirmed hear that nobody knows of it."""
    client.purge()
    client.flush(CLOSE_WAIT_S)
