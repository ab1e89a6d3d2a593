"""What is told of a run: how far it is, and each of its steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from omninode_bridge.core.errors import RunFailed
from omninode_bridge.core.orchestration import states

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """A step of a run. `attempts` and `undo_attempts` count asks; times are ISO 8601 texts.

    `version` is what a committed action became, `result` what a finished effect returned; `reason`
    and `detail` say why the last attempt that failed did. `order` is the place among the commits.
    """

    name: str
    depends_on: tuple[str, ...]
    status: str
    attempts: int
    version: int | None
    result: Any
    reason: str | None
    detail: str | None
    order: int | None
    asked_at: str | None
    ended_at: str | None
    undo_attempts: int
    undo_reason: str | None
    undo_detail: str | None
    undone_at: str | None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """A run as it is now, or as it ended. `ended_at` is None while it goes on."""

    workflow_id: str
    contract: str
    contract_version: int
    status: str
    detail: str
    epoch: int | None
    started_at: str
    ended_at: str | None
    steps: tuple[StepOutcome, ...]

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, well or badly."""
        return self.status in states.TERMINAL

    def completed(self) -> RunOutcome:
        """Return this outcome if the run has completed.

        Raises:
            RunFailed: it has not, or not yet.
        """
        if self.status != states.COMPLETED:
            raise RunFailed(self.workflow_id, self.status, self.detail)
        return self

    def step(self, name: str) -> StepOutcome:
        """Return the step of that name."""
        return next(step for step in self.steps if step.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


def run_outcome(state: Mapping[str, Any]) -> RunOutcome:
    """Return what the canonical state of a run tells."""
    return RunOutcome(
        state["workflow_id"],
        state["name"],
        state["version"],
        state["status"],
        state["detail"],
        state.get("epoch"),
        state["started_at"],
        state.get("ended_at"),
        tuple(_step(each, state["steps"][each["name"]]) for each in state["contract"]["steps"]),
    )


def _step(step: Mapping[str, Any], record: Mapping[str, Any]) -> StepOutcome:
    undo = record.get("undo", {})
    return StepOutcome(
        step["name"],
        tuple(step["depends_on"]),
        record["status"],
        record.get("attempts", 0),
        record.get("version"),
        record.get("result"),
        record.get("reason"),
        record.get("detail"),
        record.get("order"),
        record.get("asked_at"),
        record.get("ended_at"),
        undo.get("attempts", 0),
        undo.get("reason"),
        undo.get("detail"),
        record.get("undone_at"),
    )
