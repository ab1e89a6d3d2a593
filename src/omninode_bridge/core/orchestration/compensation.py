"""Compensation: what committed is undone once, one after another, newest first.

Rule 1: an undo is an ask like any other: durable, retried, bounded, cancelled when out of time. One
        that fails for good is named, and the others go on: a person has to look at it anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omninode_bridge.core.orchestration import states
from omninode_bridge.core.orchestration.asking import CannotAsk
from omninode_bridge.core.orchestration.book import DETAIL_CHARS_MAX, Book

if TYPE_CHECKING:
    from omninode_bridge.core.orchestration.answers import Answer
    from omninode_bridge.core.orchestration.contract import RunStep

    Record = dict[str, Any]


class Compensation(Book):
    """The part of a turn that undoes."""

    def undo_next(self) -> None:
        """Undo the newest of what committed, or may have; when nothing is left, end the run."""
        if any("ask" in record.get("undo", {}) for record in self.steps.values()):
            return
        while left := [pair for pair in self.with_records() if self._is_to_undo(*pair)]:
            step, record = max(left, key=lambda pair: pair[1]["order"])
            self.move(record, "undo")
            record["undo"] = {}
            self._ask_undo(step, record)
            if record["status"] == states.UNDOING:
                return
        failed = any(r["status"] == states.UNDO_FAILED for r in self.steps.values())
        self.finish("end_badly" if failed else "end")

    def _is_to_undo(self, step: RunStep, record: Record) -> bool:
        if step.undo is None:
            return False
        happened = record["status"] in (states.DONE, states.LATE)
        maybe = record["status"] in (states.FAILED, states.CANCELLED) and "maybe" in record
        return happened or maybe

    def _ask_undo(self, step: RunStep, record: Record, wait_ms: int = 0) -> None:
        assert step.undo is not None, step.name
        try:
            self.ask(step, step.undo.ask, record["undo"], step.undo.timeout_ms, wait_ms)
        except CannotAsk as error:
            self._undo_failed(record, "invalid", str(error))

    def undo_answered(self, step: RunStep, record: Record, answer: Answer) -> None:
        """Take the answer to an undo: it is undone, asked for again, or has failed for good."""
        assert step.undo is not None, step.name
        undo = record["undo"]
        del undo["ask"]
        timed_out = undo.pop("timed_out", False)
        if answer.happened:
            self.move(record, "undone")
            record["undone_at"] = self.now()
            return
        reason, detail = answer.reason, answer.detail
        if timed_out and reason == "cancelled":
            reason, detail = "timeout", f"no answer within {step.undo.timeout_ms} ms"
        if self.may_retry(step.undo.retry, undo, reason):
            undo["reason"], undo["detail"] = reason, detail[:DETAIL_CHARS_MAX]
            self._ask_undo(step, record, self.wait_ms(step.undo.retry, undo))
        else:
            self._undo_failed(record, reason, detail)

    def _undo_failed(self, record: Record, reason: str, detail: str) -> None:
        self.move(record, "undo_failed")
        record["undo"] |= {"reason": reason, "detail": detail[:DETAIL_CHARS_MAX]}
