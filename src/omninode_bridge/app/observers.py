"""Those who are told the facts: they look on, and cannot stop what they look at."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from omninode_bridge.core.observation import Observation, Observe

LOGGER: Final = logging.getLogger("omninode_bridge")


class Observers:
    """A list of observers that is told facts as one."""

    def __init__(self) -> None:
        """There is nobody yet."""
        self._observers: list[Observe] = []

    def add(self, observe: Observe) -> None:
        """Tell `observe` every fact from now on."""
        self._observers.append(observe)

    def tell(self, observation: Observation) -> None:
        """Tell a fact to all of them; who fails is logged."""
        for observe in self._observers:
            try:
                observe(observation)
            except Exception:
                # Who looks on must not stop what it looks at.
                LOGGER.exception("an observer failed on %r", observation)
