"""The clock of this process, and the ids that are made by it."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from omninode_bridge.core.message import time_ordered_id

if TYPE_CHECKING:
    from uuid import UUID


def now() -> datetime:
    """Return what time it is here."""
    return datetime.now(UTC)


def new_action_id() -> UUID:
    """Return an id for an action that was given none: later ones are higher."""
    return time_ordered_id(time.time_ns() // 1_000_000, secrets.randbits(74))
