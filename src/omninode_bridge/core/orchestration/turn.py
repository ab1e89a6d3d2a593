"""One action's turn on a run: what it changes, step by step, and the intents that follow.

Rule 1: a step has at most one attempt under way; its record then has `ask`, the id of that attempt.
        An attempt is over when its one reply is here, so nothing is asked again, and nothing is
        undone, while it is not known whether it happened.
Rule 2: when a run ends badly, what is under way is cancelled and awaited; what committed, even so,
        is undone once, one after another, in reverse order of commit (as the run learned of it).
Rule 3: a reply or a timer for an attempt that is not under way changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omninode_bridge.core.nesting import is_nested_deeper
from omninode_bridge.core.orchestration import states
from omninode_bridge.core.orchestration.asking import (
    NESTING_MAX,
    RESULT_BYTES_MAX,
    CannotAsk,
    size_of,
)
from omninode_bridge.core.orchestration.book import DETAIL_CHARS_MAX
from omninode_bridge.core.orchestration.compensation import Compensation
from omninode_bridge.core.orchestration.states import RUN_TABLE, moved
from omninode_bridge.core.reducer import Transition

if TYPE_CHECKING:
    from omninode_bridge.core.orchestration.answers import Answer
    from omninode_bridge.core.orchestration.contract import RunStep

    Record = dict[str, Any]


class Turn(Compensation):
    """A copy of a run's state, to be changed by one action."""

    def transition(self) -> Transition:
        """Go on as far as possible, and return where that leads."""
        self._advance()
        return Transition(self.state, tuple(self.intents))

    # -- what comes ----------------------------------------------------------------------------

    def answered(self, answer: Answer) -> bool:
        """Take an answer; False: no attempt under way is meant."""
        for step, record in self.with_records():
            if record.get("ask") == answer.ask_id:
                self._step_answered(step, record, answer)
                return True
            undo = record.get("undo", {})
            if undo.get("ask") == answer.ask_id:
                self.undo_answered(step, record, answer)
                return True
        return False

    def timed_out(self, ask_id: str) -> bool:
        """Take a time-out; False: the attempt is over, or is cancelled already."""
        for step, record in self.with_records():
            if record.get("ask") == ask_id and record["status"] == states.ASKED:
                self.cancel(step.name, step.ask, ask_id)
                if self.may_retry(step.retry, record, "timeout"):
                    self.move(record, "time_out")
                else:
                    self.move(record, "lose")
                    self._blame(step, record, "timeout", f"no answer within {step.timeout_ms} ms")
                return True
            undo = record.get("undo", {})
            if undo.get("ask") == ask_id and "timed_out" not in undo and step.undo is not None:
                self.cancel(step.name, step.undo.ask, ask_id)
                undo["timed_out"] = True
                return True
        return False

    def end(self, trigger: str, detail: str) -> None:
        """End the run before its steps are done: `fail`, or `compensate`."""
        self.state["status"] = moved(RUN_TABLE, self.state["status"], trigger)
        self.state["detail"] = detail[:DETAIL_CHARS_MAX]
        for step, record in self.with_records():
            match record["status"]:
                case states.WAITING:
                    self.move(record, "skip")
                case states.ASKED:
                    self.move(record, "cancel")
                    self.cancel(step.name, step.ask, record["ask"])
                case states.TIMED_OUT:  # cancelled already
                    self.move(record, "cancel")
                case _:
                    pass

    # -- going on ------------------------------------------------------------------------------

    def _advance(self) -> None:
        self._ask_ready()
        under_way = any("ask" in record for record in self.steps.values())
        match self.state["status"]:
            case states.RUNNING if not under_way:
                self.finish("complete")
            case states.FAILING if not under_way:
                self.finish("end")
            case states.COMPENSATING if not under_way:
                self.undo_next()
            case _:
                pass

    def _ask_ready(self) -> None:
        """Ask for every step whose turn has come; one that cannot be asked may let others go on."""
        again = True
        while again:
            again = False
            for step, record in self.with_records():
                if self.state["status"] != states.RUNNING:
                    return
                if record["status"] == states.WAITING and self._is_ready(step):
                    self._ask_step(step, record)
                    again = again or record["status"] != states.ASKED

    def _is_ready(self, step: RunStep) -> bool:
        """Return whether all it depends on is over: what failed, the run goes on without."""
        settled = (states.DONE, states.LATE, states.FAILED, states.UNKNOWN)
        return all(self.steps[name]["status"] in settled for name in step.depends_on)

    # -- steps ---------------------------------------------------------------------------------

    def _ask_step(self, step: RunStep, record: Record, wait_ms: int = 0) -> None:
        record.setdefault("asked_at", self.now())
        try:
            self.ask(step, step.ask, record, step.timeout_ms, wait_ms)
        except CannotAsk as error:
            self._fail(step, record, "invalid", str(error))
        else:
            self.move(record, "ask")

    def _step_answered(self, step: RunStep, record: Record, answer: Answer) -> None:
        del record["ask"]
        status = record["status"]
        if answer.happened:
            self._committed(record, answer)
            return
        if answer.maybe:
            record["maybe"] = True
        reason, detail = answer.reason, answer.detail
        if reason == "cancelled" and status in (states.TIMED_OUT, states.UNKNOWN):
            reason, detail = "timeout", f"no answer within {step.timeout_ms} ms"
        going_on = status in (states.ASKED, states.TIMED_OUT)
        if going_on and self.may_retry(step.retry, record, reason):
            record["reason"], record["detail"] = reason, detail[:DETAIL_CHARS_MAX]
            self._ask_step(step, record, self.wait_ms(step.retry, record))
        elif going_on:
            self._fail(step, record, reason, detail)
        else:
            self.move(record, "fail")
            record.setdefault("reason", reason)
            record.setdefault("detail", detail[:DETAIL_CHARS_MAX])
            self._ended(record)

    def _committed(self, record: Record, answer: Answer) -> None:
        self.move(record, "commit")
        if answer.version is not None:
            record["version"] = answer.version
        elif is_nested_deeper(answer.result, NESTING_MAX):
            record["detail"] = f"the result is nested more than {NESTING_MAX} deep: it is not kept"
        elif size_of(answer.result) <= RESULT_BYTES_MAX:
            record["result"] = answer.result
        else:
            record["detail"] = (
                f"the result has {size_of(answer.result)} bytes; only {RESULT_BYTES_MAX} are kept"
            )
        self._ended(record, committed=True)

    def _fail(self, step: RunStep, record: Record, reason: str, detail: str) -> None:
        self.move(record, "fail")
        self._ended(record)
        self._blame(step, record, reason, detail)

    def _blame(self, step: RunStep, record: Record, reason: str, detail: str) -> None:
        """The step has failed: go on without it, or end the run."""
        record["reason"], record["detail"] = reason, detail[:DETAIL_CHARS_MAX]
        if step.on_failure != "continue":
            self.end(step.on_failure, f"step {step.name}: {reason}: {detail}")

    def _ended(self, record: Record, *, committed: bool = False) -> None:
        record["ended_at"] = self.now()
        if committed or "maybe" in record:
            self.state["commits"] += 1
            record["order"] = self.state["commits"]
