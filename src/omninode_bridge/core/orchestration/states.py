"""How far a run can be, and each of its steps: two tables. What is not in them does not happen.

    run     RUNNING ──▶ COMPLETED
               │──▶ FAILING ──▶ FAILED
               └──▶ COMPENSATING ──▶ COMPENSATED, or COMPENSATION_FAILED

A run that is FAILING or COMPENSATING first waits for what is under way: no step is left dangling.
"""

from __future__ import annotations

from typing import Final

from omninode_bridge.core.fsm import Moved, Rule, TransitionTable

RUN_STARTED: Final = "RunStarted"
RUN_TAKEN_OVER: Final = "RunTakenOver"
RUN_CANCELLED: Final = "RunCancelled"
STEP_TIMED_OUT: Final = "StepTimedOut"

RUNNING: Final = "RUNNING"
FAILING: Final = "FAILING"
COMPENSATING: Final = "COMPENSATING"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
COMPENSATED: Final = "COMPENSATED"
COMPENSATION_FAILED: Final = "COMPENSATION_FAILED"
TERMINAL: Final = frozenset({COMPLETED, FAILED, COMPENSATED, COMPENSATION_FAILED})

RUN_TABLE: Final = TransitionTable(
    RUNNING,
    (RUNNING, FAILING, COMPENSATING, COMPLETED, FAILED, COMPENSATED, COMPENSATION_FAILED),
    (
        Rule("complete", (RUNNING,), COMPLETED),
        Rule("fail", (RUNNING,), FAILING),
        Rule("compensate", (RUNNING, FAILING), COMPENSATING),
        Rule("end", (FAILING,), FAILED),
        Rule("end", (COMPENSATING,), COMPENSATED),
        Rule("end_badly", (COMPENSATING,), COMPENSATION_FAILED),
    ),
)

WAITING: Final = "WAITING"
"""For the steps it depends on."""

ASKED: Final = "ASKED"
"""An attempt is under way, or due later."""

TIMED_OUT: Final = "TIMED_OUT"
"""The attempt is cancelled; when it is known not to have happened, the step is asked again."""

UNKNOWN: Final = "UNKNOWN"
"""The step has failed by its time-out; whether it happened is not known yet."""

CANCELLING: Final = "CANCELLING"
"""The run ends, and the attempt is cancelled; whether it happened is not known yet."""

DONE: Final = "DONE"
LATE: Final = "LATE"
"""It had failed by its time-out, and then turned out to have committed."""

CANCELLED: Final = "CANCELLED"
SKIPPED: Final = "SKIPPED"
UNDOING: Final = "UNDOING"
UNDONE: Final = "UNDONE"
UNDO_FAILED: Final = "UNDO_FAILED"

STEP_TABLE: Final = TransitionTable(
    WAITING,
    (
        *(WAITING, ASKED, TIMED_OUT, UNKNOWN, CANCELLING, DONE, LATE, FAILED, CANCELLED, SKIPPED),
        *(UNDOING, UNDONE, UNDO_FAILED),
    ),
    (
        Rule("skip", (WAITING,), SKIPPED),
        Rule("ask", (WAITING, ASKED, TIMED_OUT), ASKED),
        Rule("fail", (WAITING, ASKED, TIMED_OUT, UNKNOWN), FAILED),
        Rule("time_out", (ASKED,), TIMED_OUT),
        Rule("lose", (ASKED,), UNKNOWN),
        Rule("cancel", (ASKED, TIMED_OUT), CANCELLING),
        Rule("commit", (ASKED, TIMED_OUT, CANCELLING), DONE),
        Rule("commit", (UNKNOWN,), LATE),
        Rule("fail", (CANCELLING,), CANCELLED),
        # What failed too: it may have happened all the same.
        Rule("undo", (DONE, LATE, FAILED, CANCELLED), UNDOING),
        Rule("undone", (UNDOING,), UNDONE),
        Rule("undo_failed", (UNDOING,), UNDO_FAILED),
    ),
)


def moved(table: TransitionTable, status: str, trigger: str) -> str:
    """Return where `trigger` leads; that it leads anywhere is the caller's business."""
    following = table.next(status, trigger)
    assert isinstance(following, Moved), f"{trigger} in {status}"
    return following.state
