"""An application with runs: a stock that may refuse, and cards that are charged in memory.

The stock of `stock:<sku>` is `{"left", "held": {order: quantity}}`. `Cards` plays the bank: what it
has charged survives the bridge, not the process.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from omninode_bridge import Action, App, EffectCall, EffectRefused, Rejection, Transition

STOCK: Final = 100


def stock(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Hold goods for an order, or let them go."""
    left, held = state.get("left", STOCK), state.get("held", {})
    order = action.payload.get("order")
    match action.type:
        case "Reserved":
            quantity = action.payload["quantity"]
            if quantity > left:
                return Rejection(f"only {left} are left")
            return Transition({"left": left - quantity, "held": held | {order: quantity}})
        case "Released" if order in held:
            back = held.pop(order)
            return Transition({"left": left + back, "held": held})
        case "Broken":
            raise RuntimeError("a reducer with a fault")
        case _:
            return Rejection(f"the stock does not know {action.type}")


@dataclass
class Cards:
    """The bank, and what happens there."""

    charged: dict[str, int] = field(default_factory=dict)
    refunded: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    async def charge(self, call: EffectCall) -> dict[str, Any]:
        """Charge a card, once for each key; refuse amounts of 13, and hang on amounts of 99."""
        self.calls.append("charge")
        amount, key = call.payload["amount"], call.payload["key"]
        if amount == 13:
            raise EffectRefused("the card has no money")
        if amount == 98:
            raise RuntimeError("the bank is away")
        self.charged.setdefault(key, amount)
        if amount == 99:
            await self.hold.wait()
        return {"charge_id": f"charge of {key}", "amount": amount}

    async def refund(self, call: EffectCall) -> None:
        """Give the money back."""
        self.calls.append("refund")
        self.refunded.append(call.payload["key"])


def reserve(**policy: Any) -> dict[str, Any]:  # noqa: ANN401 - as a contract has it
    """Return the step that reserves."""
    key = "stock:{input.sku}"
    payload = {"order": "{workflow_id}", "quantity": "{input.quantity}"}
    return {
        "name": "reserve",
        "action": {"key": key, "type": "Reserved", "payload": payload},
        "undo": {"action": {"key": key, "type": "Released", "payload": {"order": "{workflow_id}"}}},
        **policy,
    }


def charge(**policy: Any) -> dict[str, Any]:  # noqa: ANN401 - as a contract has it
    """Return the step that charges."""
    return {
        "name": "charge",
        "depends_on": ["reserve"],
        "effect": {
            "name": "ChargeCard",
            "payload": {"amount": "{input.amount}", "key": "{step_id}"},
        },
        "undo": {"effect": {"name": "RefundCard", "payload": {"key": "{step_id}"}}},
        **policy,
    }


def contract(*steps: dict[str, Any], name: str = "order") -> dict[str, Any]:
    """Return a contract of these steps."""
    return {"name": name, "version": 1, "steps": list(steps)}


def shop(cards: Cards | None = None) -> App:
    """Return the application; with `cards`, the one that charges."""
    app = App("shop")
    app.reducer("stock")(stock)
    if cards is not None:
        app.effect("ChargeCard", attempts=1)(cards.charge)
        app.effect("RefundCard", base_ms=10)(cards.refund)
    return app
