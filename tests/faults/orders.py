"""A process that fulfils orders, made to be killed: `python -m tests.faults.orders DATA_DIR RUNS`.

The contract is the one of `examples/order_fulfilment`, with a time-out on charging that the bank
sometimes does not keep. Each order is started twice at once, `AT_ONCE` orders at a time; those that
ended in an earlier life are skipped. It writes `ended` after each, and ends itself when all have.

The bank and the carrier are a folder beside the database: a file for each card, refund and parcel,
so that each is there at most once, however often it is asked for. What comes first to a card, its
charge or its refund, makes the file of the card: a refund that comes first bars the charge, which
may still be on its way in a thread that nobody can stop.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from omninode_bridge import Action, App, Bridge, EffectCall, EffectRefused, Rejection, Transition

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACT: Final = (
    Path(__file__).parents[2] / "examples" / "order_fulfilment" / "order-fulfilment.yaml"
)
AT_ONCE: Final = 40
ARTICLES: Final = 7
DELIVERED: Final = 100_000
REFUSED_EVERY: Final = 5
TOO_MANY_EVERY: Final = 11
LATE_EVERY: Final = 37
LATE_AMOUNT: Final = 99
"""The bank takes longer for it than all attempts have, and charges then."""


def contract() -> dict[str, Any]:
    """Return the example's contract, with little time for the bank."""
    fields: dict[str, Any] = yaml.safe_load(CONTRACT.read_text("utf-8"))
    charge = next(step for step in fields["steps"] if step["name"] == "charge")
    charge["timeout_ms"] = 400
    charge["retry"] = {"attempts": 3, "base_ms": 5, "cap_ms": 50}
    charge["undo"]["retry"] = {"attempts": 20, "base_ms": 5, "cap_ms": 200}
    return fields


def order(number: int) -> dict[str, Any]:
    """Return what order `number` is of."""
    quantity = DELIVERED * 2 if number % TOO_MANY_EVERY == 0 else 1 + number % 3
    address = "Nowhere" if number % REFUSED_EVERY == 0 else f"{number} Main Street"
    amount = LATE_AMOUNT if number % LATE_EVERY == 1 else 7
    sku = f"a{number % ARTICLES}"
    return {"sku": sku, "quantity": quantity, "amount": amount, "address": address}


def stock(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Hold goods for an order, or let them go."""
    left, held = state.get("left", DELIVERED), state.get("held", {})
    name = action.payload["order"]
    match action.type:
        case "Reserved" if action.payload["quantity"] > left:
            return Rejection(f"only {left} are left")
        case "Reserved" if name in held:
            return Rejection("held already")
        case "Reserved":
            quantity = action.payload["quantity"]
            return Transition({"left": left - quantity, "held": held | {name: quantity}})
        case "Released" if name in held:
            return Transition({"left": left + held.pop(name), "held": held})
        case _:
            return Rejection(f"{action.type} of what is not held")


def charge_or_bar(folder: Path, name: str, what: str) -> str:
    """Charge a card, or bar it; return which of the two came first.

    A link is made with what it says, at one stroke, and only if there is none.
    """
    card = folder / f"{name}.card"
    with suppress(FileExistsError):
        card.symlink_to(what)
    return str(card.readlink())


def charge_late(folder: Path, name: str, wait_s: float) -> None:
    """Charge when the time of the attempt is over, or that of all attempts; leave word of it."""
    time.sleep(wait_s)
    charge_or_bar(folder, name, "charged")
    (folder / f"{name}.late").touch()


def trading(folder: Path) -> App:
    """Return the application; what it did in the world stands in `folder`."""
    app = App("orders")
    app.workflow(contract())
    app.reducer("stock")(stock)
    dice = random.Random()  # noqa: S311 - no secret

    @app.effect("ChargeCard", base_ms=5, cap_ms=50, concurrency=50)
    async def charge_card(call: EffectCall) -> dict[str, Any]:
        name = call.payload["key"].replace("/", "-")
        if call.payload["amount"] == LATE_AMOUNT:
            await asyncio.to_thread(charge_late, folder, name, 2.5)
        if dice.random() < 0.03:
            await asyncio.to_thread(charge_late, folder, name, 0.6)
        await asyncio.sleep(0.003)
        if charge_or_bar(folder, name, "charged") != "charged":
            raise EffectRefused("it was refunded before")
        if dice.random() < 0.05:
            message = "the line broke after the bank had charged"
            raise ConnectionError(message)
        return {"charge_id": name}

    @app.effect("RefundCard", base_ms=5, cap_ms=50)
    async def refund_card(call: EffectCall) -> None:
        name = call.payload["key"].replace("/", "-")
        if charge_or_bar(folder, name, "barred") == "charged":
            (folder / f"{name}.refunded").touch()

    @app.effect("ShipParcel", base_ms=5, cap_ms=50)
    async def ship_parcel(call: EffectCall) -> None:
        if call.payload["to"] == "Nowhere":
            raise EffectRefused("no road leads to Nowhere")
        (folder / f"{call.payload['to'].split()[0]}.shipped").touch()

    return app


def say(*words: object) -> None:
    """Write a line that is there when we are killed the next moment."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def fulfil(bridge: Bridge, numbers: Iterator[int]) -> None:
    """Start an order twice, wait for its end, start another."""
    for number in numbers:
        before = await bridge.run_outcome(str(number))
        if before is not None and before.is_over:
            continue  # without a word: whoever kills us waits for something new
        both = await asyncio.gather(
            *(
                bridge.run("order-fulfilment", order(number), workflow_id=str(number), timeout=120)
                for _ in range(2)
            )
        )
        assert both[0].status == both[1].status, both
        say("ended", number, both[0].status)


async def main(data_dir: str, runs: str) -> None:
    """Work until all orders have ended, or until killed."""
    folder = Path(data_dir).parent / "world"
    folder.mkdir(exist_ok=True)
    numbers = iter(range(int(runs)))
    async with Bridge.open(trading(folder), data_dir=data_dir) as bridge:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(fulfil(bridge, numbers))
        say("all")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
