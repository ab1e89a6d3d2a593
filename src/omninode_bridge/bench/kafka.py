"""How fast the bridge is over Kafka: topic, fold, commit, relay, and back to who asked.

The asks are messages of the action topic, the answers messages of the topics of events, as for any
client (`kafka_client`), which is a process of its own. The bridge and all its loops are this one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge import BatchCommitted, CommitRefused, ProjectionApplied
from omninode_bridge.bench.clients import WARM_UP_S, Sample, resident_mb
from omninode_bridge.bench.processes import ANSWER_WAIT_S, ProcessEnded

if TYPE_CHECKING:
    from asyncio import StreamReader

    from omninode_bridge import Bridge, KafkaPlace, Observation
    from omninode_bridge.bench.load import Mode

PROGRAM: Final = "omninode_bridge.bench.kafka_client"


@dataclass(frozen=True, slots=True)
class KafkaFigures:
    """One run. Times in milliseconds, memory in megabytes; `pgbench_tps` is None where it lacks.

    A latency is from the writing of an ask to the reading of its outcome, by the client's clock.
    `confirmed` and `unanswered` count all asks, those of the warm-up and of the end included.
    """

    mode: Mode
    bus: str
    clients: int
    seconds: float
    actions_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    projection_lag_p50_ms: float
    projection_lag_p99_ms: float
    conflicts: int
    gave_up: int
    retries: int
    confirmed: int
    unanswered: int
    rss_mb: float
    pgbench_tps: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


class KafkaLoad:
    """A load over Kafka, and the facts that the bridge reports of it meanwhile."""

    def __init__(self, mode: Mode, clients: int, seconds: float) -> None:
        """Have `clients` asks in flight at once, for `seconds` after the warm-up."""
        self.mode = mode
        self.clients = clients
        self.seconds = seconds
        self._measuring = False
        self._conflicts = 0
        self._retries = 0
        self._lags = Sample()

    def observe(self, observation: Observation) -> None:
        """Take note of conflicts, retries and projection lag."""
        if not self._measuring:
            return
        match observation:
            case CommitRefused():
                self._conflicts += observation.stale_keys
            case BatchCommitted():
                self._retries += observation.attempts - 1
            case ProjectionApplied():
                self._lags.add(observation.lag_s)
            case _:
                pass

    async def run(
        self, bridge: Bridge, kafka: KafkaPlace, pgbench_tps: float | None
    ) -> KafkaFigures:
        """Have a client ask over `kafka`; return what was measured once all is done with.

        Raises:
            ProcessEnded: the client did not last.
        """
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PROGRAM, kafka.bootstrap, kafka.prefix),
            *(str(bridge.partitions), self.mode, str(self.clients), str(self.seconds)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert client.stdout is not None
            await _line(client.stdout, WARM_UP_S)
            self._measuring = True
            await _line(client.stdout, self.seconds)
            self._measuring = False
            answers = json.loads(await _line(client.stdout, 0))
            await client.wait()
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
        await bridge.settled()
        return KafkaFigures(
            mode=self.mode,
            bus="kafka",
            clients=self.clients,
            projection_lag_p50_ms=self._lags.ms(50),
            projection_lag_p99_ms=self._lags.ms(99),
            conflicts=self._conflicts,
            retries=self._retries,
            rss_mb=round(resident_mb(), 1),
            pgbench_tps=pgbench_tps,
            **answers,
        )


async def _line(stdout: StreamReader, seconds: float) -> bytes:
    """Return the client's next line, which it says after so many seconds.

    Raises:
        ProcessEnded: it says nothing.
    """
    try:
        async with asyncio.timeout(seconds + ANSWER_WAIT_S):
            line = await stdout.readline()
    except TimeoutError:
        line = b""
    if not line:
        raise ProcessEnded("the client of the load said nothing: what it says stands above")
    return line
