"""Askers who wait for an outcome by the id of their action, not by its key (R9)."""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
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
LATER_MIN: Final = 100


class Answers:
    """Askers who wait for an outcome by its id, registered before their action is sent (R9)."""

    def __init__(self, waiting_max: int = WAITING_MAX, due_max: int = DUE_MAX) -> None:
        """Begin with nobody waiting; `waiting_max` may, and `due_max` for what has a `due_at`."""
        self.due_max = due_max
        self._due = 0
        self._waiting: dict[ActionName, list[tuple[SealedAction, asyncio.Future[Outcome]]]] = {}
        # Each name that is waited for stands in one of these: it may be decided, or it is due
        # later. Of the second, only the first is looked at, so that others cost nothing.
        self._decidable: dict[ActionName, None] = {}
        self._later: list[tuple[datetime, ActionName]] = []
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
        self._place(name, action)
        future.add_done_callback(lambda _: self._forget(name, entry))

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    def names(self) -> list[ActionName]:
        """Return what is waited for."""
        return list(self._waiting)

    def decidable(self, now: datetime) -> list[ActionName]:
        """Return what is waited for and may be decided: not what is due later for all its askers.

        What is due later costs nothing before: no look at each of them. Who has just been answered
        is left out, though it is forgotten only a turn of the loop later.
        """
        while self._later and self._later[0][0] <= now:
            _, name = heappop(self._later)
            if name in self._waiting:
                self._decidable[name] = None
        return [
            name
            for name in self._decidable
            if not all(future.done() for _, future in self._waiting[name])
        ]

    def answer(self, decided: SealedAction, outcome: Outcome) -> bool:
        """Tell everyone who waits for this action; who asked for another content is told that.

        Returns whether anybody waited here.
        """
        name = (decided.workflow_key, decided.action_id)
        of_another = isinstance(outcome, ReducerGaveUp) and outcome.reason == "id_reused"
        for action, future in list(self._waiting.get(name, ())):
            same = (action.type, action.payload) == (decided.type, decided.payload)
            if future.done() or (of_another and not same):
                continue  # the first outcome of the id is told with the action that had it
            future.set_result(outcome if same else id_reused(action, outcome))
        return name in self._waiting

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

    def _place(self, name: ActionName, action: SealedAction) -> None:
        if action.due_at is None:
            self._decidable[name] = None
        elif name not in self._decidable:
            heappush(self._later, (action.due_at, name))

    def _forget(
        self, name: ActionName, entry: tuple[SealedAction, asyncio.Future[Outcome]]
    ) -> None:
        entries = self._waiting[name]
        entries.remove(entry)
        if not entries:
            del self._waiting[name]
        self._decidable.pop(name, None)
        for action, _ in entries:
            self._place(name, action)
        # Who waits no more is left in the list until then, or until most of it is such (R13).
        if len(self._later) > LATER_MIN + 2 * len(self._waiting):
            first = {name: at for at, name in sorted(self._later, reverse=True)}
            self._later = [(at, name) for name, at in first.items() if name in self._waiting]
            heapify(self._later)
