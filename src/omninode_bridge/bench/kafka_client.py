"""Who asks over Kafka, apart from the bridge: `python -m omninode_bridge.bench.kafka_client`.

Its arguments are BOOTSTRAP PREFIX PARTITIONS MODE CLIENTS SECONDS. It writes actions, hears the
outcomes by their action ids, and asks again for each that was answered. It prints a line `begun`
and a line `ended` around what it measures, and last what it measured, an object in JSON.

It needs nothing of a bridge but the names of its topics, as any client does.
"""

from __future__ import annotations

import gc
import json
import random
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Final, cast
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from omninode_bridge.bench.clients import WARM_UP_S, Sample
from omninode_bridge.bench.load import SPREAD_KEYS
from omninode_bridge.core.topics import ACTION, REDUCER_GAVE_UP, STATE_COMMITTED

if TYPE_CHECKING:
    from confluent_kafka import Message

FETCH_MAX: Final = 1_000
POLL_S: Final = 0.05
ANSWERS_WAIT_S: Final = 30.0
"""How long the first answer may take, and the last one after nothing more is asked for."""

COLLECT_AFTER: Final = 50_000
HEADERS: Final = (
    ("ce_specversion", b"1.0"),
    ("ce_type", ACTION.encode()),
    ("ce_source", b"urn:omninode-bridge:bench"),
    ("ce_actiontype", b"Counted"),
    ("content-type", b"application/json"),
)
VALUE: Final = b'{"amount":3}'


@dataclass(frozen=True, slots=True)
class Answers:
    """What a client measured. Latencies in milliseconds, from writing an ask to its outcome.

    `confirmed` and `unanswered` count from the first ask on, the others while it measured.
    """

    seconds: float
    actions_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    gave_up: int
    confirmed: int
    unanswered: int


class KafkaClient:
    """So many asks in flight, on one thread: what is answered is asked for again."""

    def __init__(
        self, bootstrap: str, prefix: str, partitions: int, mode: str, clients: int
    ) -> None:
        """Write to and read from the topics of `prefix`, which are new."""
        settings = {"bootstrap.servers": bootstrap, "log_level": 0}
        self._producer = Producer(
            settings
            | {
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                # Who waits for each answer has nothing to send with it.
                "linger.ms": 0 if clients == 1 else 1,
                "delivery.report.only.error": True,
            }
        )
        self._consumer = Consumer(
            settings
            | {
                "group.id": f"{prefix}client",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.min.bytes": 1,
            }
        )
        self._consumer.assign(
            [
                TopicPartition(prefix + topic, partition, 0)
                for topic in (STATE_COMMITTED, REDUCER_GAVE_UP)
                for partition in range(partitions)
            ]
        )
        self._action_topic = prefix + ACTION
        self._gave_up_topic = prefix + REDUCER_GAVE_UP
        self._mode = mode
        self._clients = clients
        self._asked: dict[bytes, float] = {}
        self._asking = True
        self._measuring = False
        self._latencies = Sample()
        self._confirmed = 0
        self._answered = 0
        self._gave_up = 0

    def run(self, seconds: float) -> Answers:
        """Measure for `seconds` after the warm-up; return when all is answered, or too late."""
        for _ in range(self._clients):
            self._ask()
        began = monotonic()
        while not self._confirmed and monotonic() < began + ANSWERS_WAIT_S:
            self._hear_now()  # a topic that is new takes a while
        self._hear_until(monotonic() + WARM_UP_S)
        _say("begun")
        self._measuring, began = True, monotonic()
        self._hear_until(began + seconds)
        self._measuring, took = False, monotonic() - began
        _say("ended")
        self._asking = False
        self._hear_until(monotonic() + ANSWERS_WAIT_S)
        self._consumer.close()
        return Answers(
            seconds=round(took, 3),
            actions_per_s=round(self._answered / took, 1),
            p50_ms=self._latencies.ms(50),
            p95_ms=self._latencies.ms(95),
            p99_ms=self._latencies.ms(99),
            gave_up=self._gave_up,
            confirmed=self._confirmed,
            unanswered=len(self._asked),
        )

    def _ask(self) -> None:
        action_id = str(uuid4()).encode()
        name = "hot" if self._mode == "hot" else random.randrange(SPREAD_KEYS)  # noqa: S311 - no secret
        time = datetime.now(UTC).isoformat().encode()
        self._asked[action_id] = monotonic()
        self._producer.produce(
            self._action_topic,
            VALUE,
            f"bench:{name}",
            headers=[*HEADERS, ("ce_id", action_id), ("ce_time", time)],
        )

    def _hear_until(self, ends: float) -> None:
        """Hear until then, or until nothing is asked for any more."""
        while self._asked and monotonic() < ends:
            self._hear_now()

    def _hear_now(self) -> None:
        """Hear what is there; wait a moment for the first of it."""
        messages = self._consumer.consume(1, POLL_S)
        if messages:
            messages += self._consumer.consume(FETCH_MAX - 1, 0)
        now = monotonic()
        for message in messages:
            self._take(message, now)
        self._producer.poll(0)

    def _take(self, message: Message, now: float) -> None:
        if message.error() is not None:
            raise KafkaException(message.error())
        asked = self._asked.pop(_action_id(message), None)
        if asked is None:
            return  # a repeat
        committed = message.topic() != self._gave_up_topic
        self._confirmed += committed
        if self._measuring:
            self._latencies.add(now - asked)
            self._answered += committed
            self._gave_up += not committed
        if self._asking:
            self._ask()


def _action_id(message: Message) -> bytes:
    """Return the id of the action that an event tells of."""
    # Of what was received the library makes a list, whatever else its types allow.
    for name, value in cast("list[tuple[str, bytes]]", message.headers() or []):
        if name == "ce_actionid":
            return value
    raise KeyError("ce_actionid")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(  # noqa: D103
    bootstrap: str, prefix: str, partitions: str, mode: str, clients: str, seconds: str
) -> None:
    gc.set_threshold(COLLECT_AFTER, 20, 20)
    client = KafkaClient(bootstrap, prefix, int(partitions), mode, int(clients))
    _say(json.dumps(asdict(client.run(float(seconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
