"""A real Apache Kafka for tests: one broker in KRaft mode, on free ports, in a folder of its own.

It is started as people start it (`make kafka`), by `tools/kafka/serve`. Each worker of a run has
its own, at its first use: a test that kills a shared broker would break another worker's test.

Where Java or Maven is missing, the tests are skipped with one line; `REQUIRE_KAFKA=1`, which
`.ci/run` sets, makes that a failure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
JARS: Final = "tools/kafka/target/lib"
WAIT_S: Final = 60.0


class KafkaServer:
    """A broker that a test stops, kills, stalls and starts again; its data and address stay."""

    def __init__(self, folder: Path) -> None:
        """Serve from `folder`; nothing is started yet."""
        self._folder = folder
        self._port, self._controller_port = _free_ports()
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap_servers = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when it answers."""
        assert self._process is None
        with (self._folder / "output").open("ab") as output:
            # A session of its own: Ctrl-C in the terminal is for pytest, which then stops it.
            self._process = subprocess.Popen(  # noqa: S603 - our own script
                [
                    *(ROOT / "tools/kafka/serve", ROOT / JARS, self._folder / "data"),
                    *(str(self._port), str(self._controller_port)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # Its first attempts find nobody; that is no news.
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        ends = time.monotonic() + WAIT_S
        while True:
            try:
                if admin.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                pass
            output_so_far = (self._folder / "output").read_text(errors="replace")
            assert self._process.poll() is None, f"the broker ended at once:\n{output_so_far}"
            assert time.monotonic() < ends, f"the broker does not answer:\n{output_so_far}"
            time.sleep(0.05)

    def stop(self) -> int:
        """End it as an operator does; return its status (143: by SIGTERM)."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def stall(self) -> None:
        """Let it take connections and answer none."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        # On a busy machine its threads may run on for a while before they learn of it.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever was done to it."""
        if self._process is not None:
            self.kill()

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        os.killpg(self._process.pid, how)
        status = self._process.wait(WAIT_S)
        self._process = None
        return status


def _free_ports() -> tuple[int, int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return one.getsockname()[1], two.getsockname()[1]


def _copy_jars() -> None:
    """Let one worker copy the jars, and the others wait for it."""
    (ROOT / "tools/kafka/target").mkdir(exist_ok=True)
    with (ROOT / "tools/kafka/target/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make = shutil.which("make")
        assert make is not None
        subprocess.run([make, "--silent", JARS], cwd=ROOT, check=True)  # noqa: S603 - our own target


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    """Yield a running broker; who ends or stalls it starts it again."""
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        if os.environ.get("REQUIRE_KAFKA") == "1":
            pytest.fail(
                f"missing: {', '.join(missing)}: apt-get install default-jre-headless maven"
            )
        pytest.skip(f"no {' and no '.join(missing)}: what is tested with Kafka is not tested")
    _copy_jars()
    folder = Path(tempfile.mkdtemp(prefix="omninode-bridge-kafka-"))
    server = KafkaServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)


__all__ = ["KafkaServer", "kafka_server"]
