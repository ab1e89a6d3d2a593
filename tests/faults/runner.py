"""A process that starts runs, made to be killed: `python -m tests.faults.runner DATA_DIR FIRST`.

It starts run after run from number FIRST on, a few at once, and writes `started N` before and
`ended N STATUS` after each. Every third run fails in its last step. The bank is a folder beside the
database: a file for each charge, another for each refund, made at most once.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge import App, Bridge, EffectCall, RunOutcome
from tests.integration.shop import charge, contract, reserve, stock

if TYPE_CHECKING:
    from collections.abc import Mapping

AT_ONCE: Final = 8
SKUS: Final = 5


def bank(folder: Path) -> App:
    """Return the application; what it charges and refunds stands in `folder`."""
    app = App("bank")
    app.reducer("stock")(stock)

    @app.effect("ChargeCard", base_ms=10)
    async def charge_card(call: EffectCall) -> dict[str, Any]:
        name = call.payload["key"].replace("/", "-")
        (folder / f"{name}.charged").touch()
        await asyncio.sleep(0.005)  # the bank takes its time, so that we may die meanwhile
        return {"charge_id": name}

    @app.effect("RefundCard", base_ms=10)
    async def refund_card(call: EffectCall) -> None:
        (folder / f"{call.payload['key'].replace('/', '-')}.refunded").touch()

    return app


def order(number: int) -> dict[str, Any]:
    """Return the input of run `number`; every third one asks in the end for what is not there."""
    more = 1_000_000 if number % 3 == 0 else 0
    return {"sku": f"tea-{number % SKUS}", "quantity": 0, "amount": 40, "more": more}


def steps() -> Mapping[str, Any]:
    """Return the contract: reserve, charge, and reserve more."""
    key, payload = "stock:more", {"order": "{workflow_id}", "quantity": "{input.more}"}
    more = {
        "name": "more",
        "depends_on": ["charge"],
        "action": {"key": key, "type": "Reserved", "payload": payload},
    }
    return contract(reserve(), charge(), more)


async def run(bridge: Bridge, number: int) -> RunOutcome:
    """Run `number` to its end, or join it."""
    return await bridge.run(steps(), order(number), workflow_id=str(number), timeout=60)


def say(*words: object) -> None:
    """Write a line that is there when we are killed the next moment."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def one_after_another(bridge: Bridge, numbers: itertools.count[int]) -> None:
    """Start a run, wait for its end, start another."""
    for number in numbers:
        say("started", number)
        outcome = await run(bridge, number)
        say("ended", number, outcome.status)


async def main(data_dir: str, first: str) -> None:
    """Work until killed."""
    folder = Path(data_dir).parent / "bank"
    folder.mkdir(exist_ok=True)
    numbers = itertools.count(int(first))
    async with Bridge.open(bank(folder), data_dir=data_dir) as bridge, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another(bridge, numbers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
