"""The orders, and counters, as `run --app tests.integration.kafka.traded:app` serves them.

What they do in the world stands in the folder `TRADING_FOLDER`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge import Action, Transition
from tests.faults.orders import trading

if TYPE_CHECKING:
    from omninode_bridge import App

FOLDER: Final = "TRADING_FOLDER"


def traded(folder: Path) -> App:
    """Return the application."""
    made = trading(folder)
    made.reducer("counter")(_count)
    return made


def _count(state: dict[str, Any], action: Action) -> Transition:
    """Count, and add up."""
    total = state.get("total", 0) + action.payload["amount"]
    return Transition({"count": state.get("count", 0) + 1, "total": total})


app = traded(Path(os.environ.get(FOLDER, "")))
