"""An application with effects, for tests: orders are paid through a gateway that is a file.

Each call of a handler appends a line to the file named by the order's payload, so that a test sees
how often the world was touched, whatever became of the process.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omninode_bridge import App, EffectRefused, EffectResult, Intent, Rejection, Transition

if TYPE_CHECKING:
    import asyncpg

    from omninode_bridge import Action, EffectCall

app = App("paying")


@app.reducer("order")
def order(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Be placed, be paid, be reminded."""
    match action.type:
        case "Placed":
            told = {"gateway": action.payload["gateway"], "fails": action.payload.get("fails", 0)}
            key = action.workflow_key
            intents = [Intent(action.payload.get("effect", "Charge"), key, told, reply_to=key)]
            if "remind_after_s" in action.payload:
                at = action.occurred_at + timedelta(seconds=action.payload["remind_after_s"])
                intents.append(Intent.submit(key, "Reminded", {}, due_at=at))
            return Transition({"status": "placed", "answers": []}, tuple(intents))
        case "EffectAnswered":
            answer = [action.payload["status"], action.payload["result"]]
            return Transition({**state, "answers": [*state["answers"], answer]})
        case "Reminded" | "Booked":
            return Transition({**state, action.type: state.get(action.type, 0) + 1})
        case _:
            return Rejection(f"unknown type {action.type}")


def _touch(gateway: Path, line: str) -> None:
    with gateway.open("a", encoding="ascii") as file:
        file.write(f"{line}\n")


@app.effect("Charge", attempts=4, base_ms=5, cap_ms=20)
async def charge(call: EffectCall) -> EffectResult:
    """Charge, after so many failures."""
    _touch(Path(call.payload["gateway"]), f"{call.intent_id} {call.attempt}")
    if call.attempt <= call.payload["fails"]:
        message = f"the gateway is down, for the {call.attempt}. time"
        raise ConnectionError(message)
    booked = Intent.submit(call.workflow_key, "Booked", {})
    return EffectResult({"charge": str(call.intent_id)}, (booked,))


@app.effect("Refuse")
async def refuse(_: EffectCall) -> None:
    """Refuse."""
    raise EffectRefused("this card is stolen")


@app.effect("Book", transactional=True, attempts=3, base_ms=5, cap_ms=10)
async def book(call: EffectCall, connection: asyncpg.Connection) -> dict[str, Any]:
    """Write into a table of the user's own, in the transaction that ends the effect."""
    await connection.execute("INSERT INTO bookings VALUES ($1, $2)", call.intent_id, call.attempt)
    if call.attempt <= call.payload["fails"]:
        message = "after having written"
        raise ConnectionError(message)
    return {"booked": True}
