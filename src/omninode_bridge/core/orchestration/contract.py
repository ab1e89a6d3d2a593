"""The contract of a run: steps that depend on each other, and what is done when one fails.

    name: order-fulfilment
    version: 1
    steps:
      - name: reserve
        action: {key: "stock:{input.sku}", type: Reserved, payload: {order: "{workflow_id}"}}
        undo: {action: {key: "stock:{input.sku}", type: Released, payload: {}}}
      - name: charge
        depends_on: [reserve]
        effect: {name: ChargeCard, payload: {amount: "{input.amount}", key: "{step_id}"}}
        undo: {effect: {name: RefundCard, payload: {key: "{step_id}"}}}
        retry: {attempts: 3, base_ms: 100, cap_ms: 5000}
        timeout_ms: 5000
        on_failure: compensate

Rule 1: what is read here has the right shape; whether it can work is `checks.py`'s question.
Rule 2: `as_document` gives every field that says something, defaults included: what a run does
        must not change with a default of a later release.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from omninode_bridge.core.orchestration.document import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

OnFailure = Literal["fail", "compensate", "continue"]

VERSION_MAX: Final = 999_999_999
ATTEMPTS_MAX: Final = 100
WAIT_MS_MAX: Final = 3_600_000
"""An hour. It has to be less than an outcome is remembered: one that waits may be cancelled."""

TIMEOUT_MS_MAX: Final = 7 * 24 * 3_600_000
BASE_MS: Final = 100
CAP_MS: Final = 10_000
UNDO_ATTEMPTS: Final = 5
REASONS: Final = (
    *("reducer_error", "conflict", "timeout", "dead"),
    *("rejected", "invalid", "stale_epoch", "lease_mismatch", "cancelled"),
)
"""For which a failed attempt may be followed by another: give-ups, dead effects, time-outs."""

RETRIED: Final = ("reducer_error", "conflict", "timeout", "dead")
"""Unless `reasons` says otherwise. The others are decisions: asking again gets the same one."""

NO_UNDO: Final = "none"
_STEP_OPTIONAL: Final = (
    *("depends_on", "action", "effect", "undo", "retry", "timeout_ms", "on_failure"),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for, in templates: an action on the key `target`, or an effect."""

    kind: Literal["action", "effect"]
    name: str
    target: str
    payload: Mapping[str, Any]

    def as_document(self) -> dict[str, Any]:
        """Return it as it stands in a contract."""
        if self.kind == "action":
            return {"action": {"key": self.target, "type": self.name, "payload": self.payload}}
        return {"effect": {"name": self.name, "target": self.target, "payload": self.payload}}


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to ask in all, the waits between, and the reasons for which to ask again."""

    attempts: int
    base_ms: int
    cap_ms: int
    reasons: tuple[str, ...]

    def as_document(self) -> dict[str, Any]:
        """Return it as it stands in a contract."""
        return {
            "attempts": self.attempts,
            "base_ms": self.base_ms,
            "cap_ms": self.cap_ms,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, slots=True)
class Undo:
    """What undoes a step that has committed."""

    ask: Ask
    retry: Retry
    timeout_ms: int | None

    def as_document(self) -> dict[str, Any]:
        """Return it as it stands in a contract."""
        asked = self.ask.as_document() | {"retry": self.retry.as_document()}
        return asked | _timeout(self.timeout_ms)


@dataclass(frozen=True, slots=True)
class RunStep:
    """One step. `undo` is None when it has none; `needs_no_undo`: on purpose (`undo: none`)."""

    name: str
    depends_on: tuple[str, ...]
    ask: Ask
    undo: Undo | None
    needs_no_undo: bool
    retry: Retry
    timeout_ms: int | None
    on_failure: OnFailure

    def as_document(self) -> dict[str, Any]:
        """Return it as it stands in a contract."""
        document = {
            "name": self.name,
            "depends_on": list(self.depends_on),
            **self.ask.as_document(),
            "retry": self.retry.as_document(),
            "on_failure": self.on_failure,
            **_timeout(self.timeout_ms),
        }
        if self.undo is not None or self.needs_no_undo:
            document["undo"] = NO_UNDO if self.undo is None else self.undo.as_document()
        return document


@dataclass(frozen=True, slots=True)
class RunContract:
    """What a run does. The steps stand in the order of the document."""

    name: str
    version: int
    steps: tuple[RunStep, ...]
    _by_name: dict[str, RunStep] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the steps; of two with one name the checks will tell."""
        object.__setattr__(self, "_by_name", {step.name: step for step in self.steps})

    def step(self, name: str) -> RunStep:
        """Return the step of that name."""
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        """Return whether there is a step of that name."""
        return name in self._by_name

    def before(self, name: str) -> set[str]:
        """Return what a step depends on, directly or not."""
        found: set[str] = set()
        open_ = list(self._by_name[name].depends_on)
        while open_:
            each = open_.pop()
            if each not in found:
                found.add(each)
                open_ += self._by_name[each].depends_on
        return found

    def effects(self) -> set[str]:
        """Return the names of the effects that its steps and their undos ask for."""
        return {
            each.ask.name
            for step in self.steps
            for each in (step, step.undo)
            if each is not None and each.ask.kind == "effect"
        }

    def as_document(self) -> dict[str, Any]:
        """Return the contract as JSON; `parse_contract` reads it again."""
        return {
            "name": self.name,
            "version": self.version,
            "steps": [step.as_document() for step in self.steps],
        }


def parse_contract(document: object) -> RunContract:
    """Return the contract that a JSON document describes; `check_contract` it before a run.

    Raises:
        ContractFault: it has the wrong shape.
    """
    fields = Value((), document).fields(("name", "version", "steps"), ())
    return RunContract(
        fields["name"].label(),
        fields["version"].number(VERSION_MAX),
        tuple(_step(each) for each in fields["steps"].items()),
    )


def _timeout(timeout_ms: int | None) -> dict[str, Any]:
    return {} if timeout_ms is None else {"timeout_ms": timeout_ms}


def _step(value: Value) -> RunStep:
    fields = value.fields(("name",), _STEP_OPTIONAL)
    depends_on = fields["depends_on"].items() if "depends_on" in fields else []
    undo = fields.get("undo")
    needs_no_undo = undo is not None and undo.value == NO_UNDO
    return RunStep(
        fields["name"].label(),
        tuple(each.text() for each in depends_on),
        _ask(value, fields),
        None if undo is None or needs_no_undo else _undo(undo),
        needs_no_undo,
        _retry(fields.get("retry"), 1),
        fields["timeout_ms"].number(TIMEOUT_MS_MAX) if "timeout_ms" in fields else None,
        _on_failure(fields.get("on_failure")),
    )


def _on_failure(value: Value | None) -> OnFailure:
    if value is None:
        return "compensate"
    return cast("OnFailure", value.choice("fail", "compensate", "continue"))


def _ask(value: Value, fields: Mapping[str, Value]) -> Ask:
    if ("action" in fields) == ("effect" in fields):
        raise value.fault(f"{value.what} must have either 'action' or 'effect'")
    if "action" in fields:
        found = fields["action"].fields(("key", "type"), ("payload",))
        payload = found["payload"].mapping() if "payload" in found else {}
        return Ask("action", found["type"].text(), found["key"].text(), payload)
    found = fields["effect"].fields(("name",), ("target", "payload"))
    payload = found["payload"].mapping() if "payload" in found else {}
    target = found["target"].value if "target" in found else ""
    if not isinstance(target, str):
        raise found["target"].fault(f"'target' must be text, not {target!r}")
    return Ask("effect", found["name"].text(), target, payload)


def _undo(value: Value) -> Undo:
    if isinstance(value.value, str):
        raise value.fault(f"'undo' must be a mapping, or {NO_UNDO} for a step that needs none")
    fields = value.fields((), ("action", "effect", "retry", "timeout_ms"))
    timeout_ms = fields["timeout_ms"].number(TIMEOUT_MS_MAX) if "timeout_ms" in fields else None
    return Undo(_ask(value, fields), _retry(fields.get("retry"), UNDO_ATTEMPTS), timeout_ms)


def _retry(value: Value | None, attempts: int) -> Retry:
    if value is None:
        return Retry(attempts, BASE_MS, CAP_MS, RETRIED)
    fields = value.fields(("attempts",), ("base_ms", "cap_ms", "reasons"))
    base_ms = fields["base_ms"].number(WAIT_MS_MAX) if "base_ms" in fields else BASE_MS
    cap_ms = max(base_ms, CAP_MS)
    if "cap_ms" in fields:
        cap_ms = fields["cap_ms"].number(WAIT_MS_MAX)
        if cap_ms < base_ms:
            raise fields["cap_ms"].fault(f"'cap_ms' must be at least 'base_ms', which is {base_ms}")
    reasons: tuple[str, ...] = RETRIED
    if "reasons" in fields:
        reasons = tuple(each.choice(*REASONS) for each in fields["reasons"].items())
    return Retry(fields["attempts"].number(ATTEMPTS_MAX), base_ms, cap_ms, reasons)
