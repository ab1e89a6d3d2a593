"""Orders through kills, duplicate submissions, late answers: goods and money add up (R2, R10)."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge
from tests.bridges import until
from tests.faults.orders import ARTICLES, DELIVERED, LATE_AMOUNT, order, trading
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_WAIT_S: Final = 120.0


async def work_and_be_killed(data_dir: Path, runs: int, lives_s: tuple[float, float]) -> bool:
    """Start a process, kill it a while after its first end; return whether it had done all."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.orders", str(data_dir), str(runs)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    loop = asyncio.get_running_loop()
    kill = None
    try:
        while True:
            async with asyncio.timeout(ANSWER_WAIT_S):
                line = (await process.stdout.readline()).decode()
            if line == "all\n":
                return True
            if not line:
                assert await process.wait() == -signal.SIGKILL, "it ended by itself"
                return False
            if kill is None:
                delay_s = random.uniform(*lives_s)  # noqa: S311 - no secret
                kill = loop.call_later(delay_s, process.send_signal, signal.SIGKILL)
    finally:
        if kill is not None:
            kill.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()


def require_no_charge_stands(folder: Path, number: int) -> None:
    """Demand that a card was never charged, or was, and then refunded: in this order."""
    card, refund = folder / f"{number}-charge.card", folder / f"{number}-charge.refunded"
    if card.is_symlink() and str(card.readlink()) == "charged":
        assert refund.exists(), f"{number}: charged for nothing"
        order = (card.lstat().st_mtime_ns, refund.stat().st_mtime_ns)
        assert order[0] <= order[1], f"{number}: charged after it was refunded"
    else:
        assert not refund.exists(), f"{number}: refunded without a charge"


async def require_sums(bridge: Bridge, folder: Path, runs: int) -> Counter[str]:
    """Compare what the runs say with the stock, the bank and the carrier; return the statuses."""
    held: dict[str, dict[str, int]] = {f"a{n}": {} for n in range(ARTICLES)}
    statuses: Counter[str] = Counter()
    for number in range(runs):
        outcome = await bridge.run_outcome(str(number))
        assert outcome is not None
        statuses[outcome.status] += 1
        shipped = (folder / f"{number}.shipped").exists()
        asked = order(number)
        if outcome.status == "COMPLETED":
            held[asked["sku"]][str(number)] = asked["quantity"]
            assert str((folder / f"{number}-charge.card").readlink()) == "charged"
            assert not (folder / f"{number}-charge.refunded").exists()
            assert shipped
        else:
            assert outcome.status == "COMPENSATED", (number, outcome)
            assert not shipped
            require_no_charge_stands(folder, number)
    for sku, orders in held.items():
        row = await bridge.state(f"stock:{sku}")
        if row is None:
            assert not orders, f"{sku}: held, and never asked for"
            continue
        assert row.state["held"] == orders
        assert row.state["left"] + sum(orders.values()) == DELIVERED
    return statuses


async def through_kills(server_folder: Path, runs: int, lives_s: tuple[float, float]) -> None:
    """Fulfil `runs` orders with processes that live so long, then count."""
    data_dir, folder, kills = server_folder / "data", server_folder / "world", 0
    while not await work_and_be_killed(data_dir, runs, lives_s):
        kills += 1
    assert kills >= 3, "hardly anybody was killed: no test"
    async with Bridge.open(trading(folder), data_dir=data_dir) as bridge:
        await bridge.settled()
        statuses = await require_sums(bridge, folder, runs)
        assert statuses["COMPLETED"] > runs / 2
        assert statuses["COMPENSATED"] > runs / 10
        assert (await bridge.verify()).mismatches == []
    await until_stopped(data_dir)


async def test_a_charge_that_arrives_after_its_refund_does_not_stand(server_folder: Path) -> None:
    data_dir, folder = server_folder / "data", server_folder / "world"
    folder.mkdir()
    assert order(1)["amount"] == LATE_AMOUNT
    async with Bridge.open(trading(folder), data_dir=data_dir) as bridge:
        outcome = await bridge.run("order-fulfilment", order(1), workflow_id="1")
        assert (outcome.status, outcome.step("charge").status) == ("COMPENSATED", "UNDONE")
        assert outcome.step("charge").attempts == 3
        assert not (folder / "1-charge.late").exists(), "no charge has arrived yet: no test"
        await until((folder / "1-charge.late").exists, "a charge that comes late")
    require_no_charge_stands(folder, 1)
    assert str((folder / "1-charge.card").readlink()) == "barred"
    await until_stopped(data_dir)


@pytest.mark.timeout(400)
async def test_goods_and_money_add_up_however_often_the_process_is_killed(
    server_folder: Path,
) -> None:
    await through_kills(server_folder, 400, (0.2, 0.6))


@pytest.mark.soak
async def test_goods_and_money_add_up_over_five_thousand_orders(server_folder: Path) -> None:
    await through_kills(server_folder, 5_000, (2.0, 5.0))
