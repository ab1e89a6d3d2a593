"""Orders that are reserved, charged and shipped, and undone where no road leads.

    python examples/order_fulfilment/orders.py [DATA_DIR]

Each order is a run of the contract beside this file. Run the program again: the same orders are the
same runs, and nothing is charged twice. Kill it in the middle: the next start carries them on.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from omninode_bridge import (
    Action,
    App,
    Bridge,
    BridgeError,
    EffectCall,
    EffectRefused,
    Rejection,
    RunOutcome,
    Transition,
)

ORDERS = {
    "order-1": {"sku": "tea", "quantity": 3, "amount": 30, "address": "1 Main Street"},
    "order-2": {"sku": "tea", "quantity": 2, "amount": 20, "address": "Nowhere"},
    "order-3": {"sku": "tea", "quantity": 9, "amount": 90, "address": "2 Main Street"},
}
DELIVERED = 10
"""How much of each article there is in the beginning."""


class Bank:
    """Stands for a bank. A real one keeps what it knows of a key for good, as it must.

    It charges once for each key, however often it is asked, and never after a refund of that key: a
    charge that was out of time may still arrive when its refund has been and gone.
    """

    def __init__(self) -> None:
        """Begin with nothing charged and nothing refunded."""
        self._charged: dict[str, int] = {}
        self._barred: set[str] = set()

    async def charge(self, key: str, amount: int) -> str:
        """Charge, unless it was done before; return the charge's id."""
        if key in self._barred:
            raise EffectRefused(f"{key} was refunded: it is not charged any more")
        self._charged.setdefault(key, amount)
        return f"charge-{key}"

    async def refund(self, key: str) -> None:
        """Give back what was charged, if it was, and bar what is still to come."""
        self._barred.add(key)
        self._charged.pop(key, None)


bank = Bank()
app = App("order-fulfilment")
app.workflow(Path(__file__).with_name("order-fulfilment.yaml"))


@app.reducer("stock")
def stock(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Hold goods for an order, or let them go."""
    left, held = state.get("left", DELIVERED), state.get("held", {})
    order = action.payload["order"]
    match action.type:
        case "Reserved" if action.payload["quantity"] > left:
            return Rejection(f"only {left} are left")
        case "Reserved":
            quantity = action.payload["quantity"]
            return Transition({"left": left - quantity, "held": held | {order: quantity}})
        case "Released" if order in held:
            return Transition({"left": left + held.pop(order), "held": held})
        case _:
            return Rejection(f"{action.type} says nothing to a stock that holds {sorted(held)}")


@app.effect("ChargeCard")
async def charge_card(call: EffectCall) -> dict[str, Any]:
    """Charge once for each key, however often we are called."""
    key, amount = call.payload["key"], call.payload["amount"]
    return {"charge_id": await bank.charge(key, amount), "amount": amount}


@app.effect("RefundCard")
async def refund_card(call: EffectCall) -> None:
    """Give back what was charged for a key, and see to it that nothing is charged for it later."""
    await bank.refund(call.payload["key"])


@app.effect("ShipParcel")
async def ship_parcel(call: EffectCall) -> dict[str, Any]:
    """Hand the parcel to the carrier."""
    if call.payload["to"] == "Nowhere":
        raise EffectRefused("no road leads to Nowhere")
    return {"parcel": f"parcel for {call.payload['paid']}"}


async def main(data_dir: str) -> None:
    """Run all orders, one after another, and tell what became of each."""
    async with Bridge.open(app, data_dir=data_dir) as bridge:
        for workflow_id, order in ORDERS.items():
            outcome = await bridge.run("order-fulfilment", order, workflow_id=workflow_id)
            print(workflow_id, outcome.status, "-", told(outcome))
        state = await bridge.state("stock:tea")
        print("tea left:", state and state.state["left"])


def told(outcome: RunOutcome) -> str:
    """Return the steps of a run on one line, and why it failed."""
    steps = ", ".join(f"{step.name} {step.status}" for step in outcome.steps)
    return f"{steps} ({outcome.detail})" if outcome.detail else steps


if __name__ == "__main__":
    if sys.argv[2:]:
        print(f"usage: {sys.argv[0]} [DATA_DIR]", file=sys.stderr)
        sys.exit(2)
    try:
        asyncio.run(main(*(sys.argv[1:] or [".data-orders"])))
    except BridgeError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
