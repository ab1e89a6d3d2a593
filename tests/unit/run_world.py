"""A world around one run: keys, effects, a dispatcher and timers, in whatever order chance likes.

What a run asks for is decided at some time, cancelled or not, and its one reply is delivered some
time after; timers fire when they like, late ones included; any reply may be delivered twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from omninode_bridge.core.message import (
    ACTION_ANSWERED,
    CANCEL_EFFECT,
    EFFECT_ANSWERED,
    SUBMIT_ACTION,
    SealedAction,
    reply_id,
)
from omninode_bridge.core.orchestration import RUN, RUN_STARTED, TERMINAL, run_key
from omninode_bridge.core.reducer import NEVER_SEEN, Absorbed, Refused, fold
from tests.unit.actions import CODEC, OCCURRED_AT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from omninode_bridge.core.reducer import SealedIntent, Step

KEY: Final = run_key("w")
_IDS: Final = UUID(int=77)


@dataclass
class Asked:
    """What the run asked for under one id. `happened` is the truth, whatever the run is told."""

    ask_id: str
    kind: str
    step: str
    part: str
    decided: bool = False
    happened: bool = False
    maybe: bool = False
    answered: bool = False


@dataclass
class RunWorld:
    """One run, and all that it can meet."""

    dice: Random
    snapshot: Any = NEVER_SEEN
    now: Any = OCCURRED_AT
    asked: dict[str, Asked] = field(default_factory=dict)
    cancels: list[str] = field(default_factory=list)
    replies: list[SealedAction] = field(default_factory=list)
    delivered: list[SealedAction] = field(default_factory=list)
    timers: list[SealedAction] = field(default_factory=list)
    learned: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    depth_max: int = 0
    numbers: int = 0

    @property
    def state(self) -> dict[str, Any]:
        """The run's state."""
        state: dict[str, Any] = CODEC.decode(self.snapshot.state)
        return state

    def start(self, contract: Mapping[str, Any], given: Mapping[str, Any]) -> Step:
        """Start the run."""
        return self.take(RUN_STARTED, {"contract": contract, "input": given})

    def take(self, action_type: str, payload: Mapping[str, Any]) -> Step:
        """Hand an action of a person's to the run."""
        self.numbers += 1
        return self._fold(self._sealed(uuid5(_IDS, str(self.numbers)), action_type, payload, 0))

    def go_on(self) -> bool:
        """Let one thing happen; False: nothing is left that could."""
        ways = []
        undecided = [each for each in self.asked.values() if not each.decided]
        if undecided:
            ways.append(lambda: self._decide(self.dice.choice(undecided)))
        if self.cancels:
            ways.append(lambda: self._cancel(self.cancels.pop(0)))
        if self.replies:
            ways.append(self._deliver)
        if self.timers:
            ways.append(lambda: self._fire(self.dice.randrange(len(self.timers))))
        if not ways:
            return False
        self.now += timedelta(milliseconds=self.dice.randrange(1, 500))
        self.dice.choice(ways)()
        if self.delivered and self.dice.random() < 0.1:
            self._fold(self.dice.choice(self.delivered))
        return True

    # -- what happens ------------------------------------------------------------------------------

    def _decide(self, asked: Asked) -> None:
        """Let a key or a handler decide."""
        asked.decided = True
        chance = self.dice.random()
        if asked.kind == "action":
            asked.happened = chance < 0.6
            reason = "reducer_error" if chance < 0.9 else "rejected"
            self._reply_of_action(asked, reason)
            return
        asked.happened = chance < 0.7
        asked.maybe = chance < 0.85
        self._reply_of_effect(asked, "done" if chance < 0.6 else "dead")

    def _cancel(self, ask_id: str) -> None:
        asked = self.asked[ask_id]
        if asked.decided:
            return  # its own reply is on its way, or was delivered
        asked.decided = True
        if asked.kind == "action":
            self._reply_of_action(asked, "cancelled")
            return
        asked.maybe = self.dice.random() < 0.5
        asked.happened = asked.maybe and self.dice.random() < 0.5
        self._reply_of_effect(asked, "cancelled")

    def _reply_of_action(self, asked: Asked, reason: str) -> None:
        told: dict[str, Any] = {"workflow_key": "some:key", "action_id": asked.ask_id}
        if asked.happened:
            told |= {"event": "StateCommitted", "version": 7}
        else:
            told |= {"event": "ReducerGaveUp", "attempts": 1, "reason": reason}
            told |= {"detail": "no", "version": 3}
        self._reply(asked, ACTION_ANSWERED, told)

    def _reply_of_effect(self, asked: Asked, status: str) -> None:
        told = {
            "intent_id": asked.ask_id,
            "intent_type": "Effect",
            "status": status,
            "result": {"ok": True} if status == "done" else None,
            "detail": "",
            "attempts": 1,
            "maybe_done": status != "done" and (asked.maybe or asked.happened),
        }
        asked.maybe = bool(told["maybe_done"])
        self._reply(asked, EFFECT_ANSWERED, told)

    def _reply(self, asked: Asked, action_type: str, told: Mapping[str, Any]) -> None:
        self.replies.append(self._sealed(reply_id(UUID(asked.ask_id)), action_type, told, 2))

    def _deliver(self) -> None:
        reply = self.replies.pop(self.dice.randrange(len(self.replies)))
        self.delivered.append(reply)
        told = CODEC.decode(reply.payload)
        asked = self.asked[told.get("action_id") or told["intent_id"]]
        asked.answered = True
        committed = told.get("event") == "StateCommitted" or told.get("status") == "done"
        if asked.part == "undo" and committed:
            self.undone.append(asked.step)
        elif asked.part == "do" and committed:
            self.learned.append(asked.step)
        self._fold(reply)

    def _fire(self, place: int) -> None:
        timer = self.timers.pop(place)
        self.delivered.append(timer)
        self._fold(timer)

    # -- the run -----------------------------------------------------------------------------------

    def _sealed(
        self, action_id: UUID, action_type: str, payload: Mapping[str, Any], depth: int
    ) -> SealedAction:
        content = CODEC.encode(dict(payload))
        return SealedAction(action_id, KEY, action_type, content, self.now, depth=depth)

    def _fold(self, action: SealedAction) -> Step:
        before = self.snapshot
        self.snapshot, (step,) = fold(before, [action], RUN, CODEC, self.now)
        if isinstance(step, Refused):
            assert step.reason == "rejected", step.detail
            return step
        assert isinstance(step, Absorbed)
        was, status = self.statuses[-1:], self.state["status"]
        assert not was or was[0] not in TERMINAL, "a terminal state stays"
        self.statuses.append(status)
        for intent in step.intents:
            self._dispatch(intent)
        return step

    def _dispatch(self, intent: SealedIntent) -> None:
        payload = CODEC.decode(intent.payload)
        if intent.intent_type == CANCEL_EFFECT:
            self.cancels.append(intent.target)
        elif intent.intent_type != SUBMIT_ACTION:
            assert intent.reply_to == KEY
            self._asked(str(intent.intent_id), "effect", payload)
        elif "cancels" in payload:
            assert intent.reply_to == KEY
            assert payload["payload"]["step"] == self.asked[payload["cancels"]].step
            self.cancels.append(payload["cancels"])
        elif intent.target == KEY:
            timer = self._sealed(intent.intent_id, payload["type"], payload["payload"], 1)
            self.timers.append(timer)
        else:
            assert intent.reply_to == KEY
            self._asked(str(intent.intent_id), "action", payload["payload"])

    def _asked(self, ask_id: str, kind: str, payload: Mapping[str, Any]) -> None:
        asked = Asked(ask_id, kind, payload["step"], payload["part"])
        under_way = [each for each in self.asked.values() if each.step == asked.step]
        assert all(each.answered for each in under_way), "never two current attempts"
        assert ask_id not in self.asked
        self.asked[ask_id] = asked
