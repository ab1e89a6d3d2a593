"""Askers who wait for an outcome by the id of their action, not by its key (R9)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.commit import id_reused
from omninode_bridge.core.errors import OutcomeUnknown
from omninode_bridge.core.message import ReducerGaveUp, content_hash

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from omninode_bridge.core.commit import ActionName, Remembered
    from omninode_bridge.core.message import Outcome, SealedAction

WAITING_MAX: Final = 10_000
DUE_MAX: Final = 10_000
"""Of those whose action has a `due_at`: they may wait for days, and have a room of their own."""


class Answers:
    """Askers who wait for an outcome by its id, registered before their action is sent (R9)."""

    def __init__(self, waiting_max: int = WAITING_MAX, due_max: int = DUE_MAX) -> None:
        """Begin with nobody waiting; `waiting_max` may, and `due_max` for what has a `due_at`."""
        self.due_max = due_max
        self._due = 0
        self._waiting: dict[ActionName, list[tuple[SealedAction, asyncio.Future[Outcome]]]] = {}
        self._room = asyncio.BoundedSemaphore(waiting_max)

    async def register(self, action: SealedAction, future: asyncio.Future[Outcome]) -> None:
        """Wait for room, then let `future` be answered with the outcome of `action`."""
        await self._room.acquire()
        future.add_done_callback(lambda _: self._room.release())
        self.register_now(action, future)

    def register_due(self, action: SealedAction, future: asyncio.Future[Outcome]) -> bool:
        """Do so for an action with a `due_at`, if there is room for one more; return whether."""
        if self._due >= self.due_max:
            return False
        self._due += 1
        future.add_done_callback(self._due_over)
        self.register_now(action, future)
        return True

    def register_now(self, action: SealedAction, future: asyncio.Future[Outcome]) -> None:
        """Do so without waiting: for what has found its room elsewhere, in a worker's inbox."""
        name = (action.workflow_key, action.action_id)
        entry = (action, future)
        self._waiting.setdefault(name, []).append(entry)
        future.add_done_callback(lambda _: self._forget(name, entry))

    def names(self, now: datetime | None = None) -> list[ActionName]:
        """Return what is waited for; with `now`, without what is due later for all its askers."""
        if now is None:
            return list(self._waiting)
        return [
            name
            for name, entries in self._waiting.items()
            if any(is_due(action, now) for action, _ in entries)
        ]

    def answer(self, decided: SealedAction, outcome: Outcome) -> None:
        """Tell everyone who waits for this action; who asked for another content is told that."""
        name = (decided.workflow_key, decided.action_id)
        of_another = isinstance(outcome, ReducerGaveUp) and outcome.reason == "id_reused"
        for action, future in list(self._waiting.get(name, ())):
            same = (action.type, action.payload) == (decided.type, decided.payload)
            if future.done() or (of_another and not same):
                continue  # the first outcome of the id is told with the action that had it
            future.set_result(outcome if same else id_reused(action, outcome))

    def give_up(self) -> None:
        """Tell everyone who still waits that nobody here will know: the host has closed."""
        for entries in list(self._waiting.values()):
            for action, future in list(entries):
                if not future.done():
                    future.set_exception(OutcomeUnknown(action.workflow_key, action.action_id, 0))
                    future.exception()  # whoever does not look need not be warned

    def answer_known(self, known: Mapping[ActionName, Remembered]) -> None:
        """Tell remembered outcomes; who asked for another content is told `id_reused`."""
        for name, remembered in known.items():
            for action, future in list(self._waiting.get(name, ())):
                same = content_hash(action.type, action.payload) == remembered.request_hash
                outcome = remembered.outcome if same else id_reused(action, remembered.outcome)
                if not future.done():
                    future.set_result(outcome)

    def _due_over(self, _: asyncio.Future[Outcome]) -> None:
        self._due -= 1

    def _forget(
        self, name: ActionName, entry: tuple[SealedAction, asyncio.Future[Outcome]]
    ) -> None:
        entries = self._waiting[name]
        entries.remove(entry)
        if not entries:
            del self._waiting[name]


def is_due(action: SealedAction, now: datetime) -> bool:
    """Return whether `action` may have been applied by `now`."""
    return action.due_at is None or action.due_at <= now
