"""Carries out effects: calls handlers for the intents of one partition, and makes the ends durable.

Rule 1: at least once (R10). Die anywhere before an end is durable, and the handler is called again
        with the same intent id; afterwards, never. What follows from an end is written with it.
Rule 2: nothing slow holds up others: a failed effect waits outside of the log (parked), and so does
        what would fill the window while other types could go on. A type has its own slots.
Rule 3: who is no longer the owner makes no end durable (R12) and stops.

What is not over when the process ends is still in the log behind the position, or parked.

To read in this order: `runner.py` (the loop), `intake.py` (what comes into hand), `attempts.py`
(calling handlers), `transaction.py` (those that write with their end), `cancellation.py`,
`settlement.py` (making durable).
"""

from __future__ import annotations

from omninode_bridge.services.effect_runner.runner import EffectRunner

__all__ = ["EffectRunner"]
