"""How fast effects are carried out while somebody holds an old snapshot, and without.

    python benchmarks/effects_under_snapshot.py [--seconds 600] [--failing 0.02] [--keys 1000000]

One bridge on an embedded database of its own; clients submit actions, each of which asks for one
effect; `--failing` of the effects fail once, so that they are parked and taken up again. With a
million keys an order has few actions, as orders do, and what is measured is the queue. With few
keys the rows of the canonical store are measured too: each change of one leaves a version that the
snapshot keeps.

The load runs for so many seconds while a transaction holds the snapshot it took before, in slices
that are printed; then the transaction ends, and the load goes on for a sixth of the time. Prints
the rate of each slice, and the loss of the last slice under the snapshot against the first one, and
against the rate afterwards; and the same by the CPU time of this process and the server for each
effect, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import asyncpg
import psutil

from omninode_bridge import App, Bridge, EffectAttempted, Intent, Transition
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer

if TYPE_CHECKING:
    from omninode_bridge import Action, EffectCall

CLIENTS = 200
SLICES = 10


def declared(failing: float) -> App:
    """Return an application that asks for an effect with each action."""
    app = App("effects under a snapshot")

    @app.reducer("order")
    def _(state: dict[str, Any], action: Action) -> Transition:  # noqa: ARG001 - the signature it has to have
        return Transition({"n": action.payload["n"]}, (Intent("Mail", payload=action.payload),))

    @app.effect("Mail", base_ms=50, cap_ms=500)
    async def _(call: EffectCall) -> None:
        if call.attempt == 1 and call.payload["n"] % 1_000 < failing * 1_000:
            message = "once"
            raise ConnectionError(message)

    return app


@dataclass(frozen=True)
class Slice:
    """What was measured in a part of the time: effects a second, and CPU microseconds for each."""

    rate: float
    cpu_us: float


def cpu_seconds(server: int) -> float:
    """Return the CPU seconds of this process and of the server's, those that are gone left out."""
    postmaster = psutil.Process(server)
    spent = 0.0
    for process in (psutil.Process(), postmaster, *postmaster.children()):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent


class Meter:
    """Counts effects that are done."""

    def __init__(self) -> None:
        """Begin at none."""
        self.done = 0

    def observe(self, fact: object) -> None:
        """Count one."""
        self.done += isinstance(fact, EffectAttempted) and fact.ended == "done"

    async def slice(self, seconds: float, server: int) -> Slice:
        """Count for `seconds`; `server` is the process id of the database's postmaster."""
        began, before, spent = monotonic(), self.done, cpu_seconds(server)
        await asyncio.sleep(seconds)
        done = self.done - before
        cpu_us = (cpu_seconds(server) - spent) / max(done, 1) * 1e6
        return Slice(done / (monotonic() - began), cpu_us)


async def load(bridge: Bridge, number: int, keys: int) -> None:
    """Submit, wait for the answer, submit again."""
    while True:
        await bridge.submit(f"order:{number % keys}", "Placed", {"n": number}, timeout=60)
        number += CLIENTS


async def measure(data_dir: Path, seconds: float, failing: float, keys: int) -> None:
    """Run the load and print what was measured."""
    meter = Meter()
    async with (
        Bridge.open(declared(failing), data_dir=data_dir, observe=meter.observe) as bridge,
        EmbeddedServer(data_dir).use() as address,
    ):
        clients = [asyncio.create_task(load(bridge, number, keys)) for number in range(CLIENTS)]
        await asyncio.sleep(2)
        holder = await asyncpg.connect(**address.connect_arguments)
        transaction = holder.transaction(isolation="repeatable_read")
        await transaction.start()
        await holder.fetchval("SELECT count(*) FROM effects")
        server = int((data_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        under = [await meter.slice(seconds / SLICES, server) for _ in range(SLICES)]
        await transaction.rollback()
        await holder.close()
        after = await meter.slice(seconds / 6, server)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    first, last = under[0], under[-1]
    sys.stdout.write(
        f"under the snapshot: {' '.join(f'{each.rate:,.0f}' for each in under)} effects/s,"
        f" {' '.join(f'{each.cpu_us:,.0f}' for each in under)} us of CPU an effect\n"
        f"afterwards: {after.rate:,.0f} effects/s, {after.cpu_us:,.0f} us of CPU an effect\n"
        f"loss in the last slice: {1 - last.rate / first.rate:.1%} against the first,"
        f" {1 - last.rate / after.rate:.1%} against afterwards;"
        f" by CPU {1 - first.cpu_us / last.cpu_us:.1%} and {1 - after.cpu_us / last.cpu_us:.1%}\n"
    )


def main() -> None:
    """Measure in a folder that is gone afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--failing", type=float, default=0.02)
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="omninode-bridge-bench-") as folder:
        Path(folder).chmod(0o711)
        asyncio.run(measure(Path(folder) / "data", options.seconds, options.failing, options.keys))


if __name__ == "__main__":
    main()
