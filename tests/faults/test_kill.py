"""`kill -9` at random moments under load: every acknowledged action is there, once (R2, R3, R4)."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final
from uuid import UUID

import pytest

from omninode_bridge import Bridge
from tests.bridges import app
from tests.faults.load import KEYS
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

KILLS: Final = 20
ANSWER_WAIT_S: Final = 60.0


class Ledger:
    """What the killed processes said, one line at a time."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}
        self.acked: dict[str, int] = {}

    def note(self, line: str) -> bool:
        """Take a line; return whether it was an answer. A line cut off by the kill says nothing."""
        match line.split():
            case ["asked", key, action_id] if len(action_id) == 36:
                self.asked[action_id] = key
                return False
            case ["acked", _, action_id, version] if line.endswith("\n"):
                first = self.acked.setdefault(action_id, int(version))
                assert first == int(version), f"{action_id}: answered {first}, then {version}"
                return True
            case _:
                return False

    def unanswered(self) -> dict[str, str]:
        """Return the actions nobody lived to see the outcome of, with their keys."""
        return {i: key for i, key in self.asked.items() if i not in self.acked}


async def run_and_kill(data_dir: Path, ledger: Ledger, round_number: int) -> None:
    """Start a process under load, and kill it some time after its first answer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.load", str(data_dir), str(round_number)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    again = ledger.unanswered()
    lines = [f"{key} {action_id}\n" for action_id, key in again.items()]
    process.stdin.write(("".join(lines) + "\n").encode())
    try:
        async with asyncio.timeout(ANSWER_WAIT_S):
            while not ledger.note((line := await process.stdout.readline()).decode()):
                assert line, "the process ended by itself"
    finally:
        loop = asyncio.get_running_loop()
        delay_s = random.uniform(0, 0.3)  # noqa: S311 - no secret
        kill = loop.call_later(delay_s, process.send_signal, signal.SIGKILL)
        while line := await process.stdout.readline():
            ledger.note(line.decode())
        kill.cancel()
        await process.wait()


@pytest.mark.timeout(300)
async def test_every_acknowledged_action_is_there_once_after_twenty_kills(
    server_folder: Path,
) -> None:
    data_dir, ledger = server_folder / "data", Ledger()
    for round_number in range(KILLS):
        await run_and_kill(data_dir, ledger, round_number)
    assert len(ledger.acked) > KILLS * 10, "hardly anything was acknowledged: no test"

    async with Bridge.open(app, data_dir=data_dir) as bridge:
        for action_id, key in ledger.unanswered().items():
            await ask_again(bridge, key, action_id)
        await bridge.settled()
        counts: Counter[str] = Counter()
        seen: Counter[str] = Counter()
        for number in range(KEYS):
            key = f"counter:{number}"
            after = 0
            while page := await bridge.history(key, after=after):
                for line in page:
                    seen[line["action"]["action_id"]] += 1
                    counts[key] += 1
                    acked = ledger.acked.get(line["action"]["action_id"])
                    assert acked in (None, line["version"])
                after = page[-1]["version"]
        assert seen.keys() == ledger.asked.keys()
        assert set(seen.values()) == {1}
        for key, count in counts.items():
            state = await bridge.state(key)
            assert state is not None
            assert state.version == state.state["count"] == count
        total = await bridge.state("counter:sum")
        assert total is not None
        assert total.state["count"] == len(ledger.asked), "a follow-up was lost or doubled (R10)"
        verification = await bridge.verify()
        assert verification.mismatches == []
        assert verification.actions == 2 * len(ledger.asked)
    await until_stopped(data_dir)


async def ask_again(bridge: Bridge, key: str, action_id: str) -> None:
    """Learn the outcome of an action, or bring it about."""
    payload = {"amount": 1, "passes_on_to": ["counter:sum"]}
    outcome = await bridge.submit(key, "Counted", payload, action_id=UUID(action_id), timeout=30)
    outcome.committed()
