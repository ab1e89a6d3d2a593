"""A row is as its table has it: each field within its bounds, nothing more, and never changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from pydantic import ValidationError

from omninode_bridge.infrastructure import entities
from omninode_bridge.infrastructure.entities import (
    ModelActionDedup,
    ModelDeadLetter,
    ModelProjectionWatermark,
    ModelProvenance,
    ModelWorkflowProjection,
    ModelWorkflowState,
)

if TYPE_CHECKING:
    from omninode_bridge.infrastructure.entities.row import Row

AT: Final = datetime(2011, 10, 1, 0, 38, 44, 546000, tzinfo=UTC)
NAIVE: Final = AT.replace(tzinfo=None)
HASH: Final = "0123456789abcdef" * 4
LONG_KEY: Final = "a:" + "x" * 511
Fields = dict[str, Any]

GOOD: Final[dict[type[Row], Fields]] = {
    ModelProvenance: {
        "effect_id": UUID(int=1),
        "timestamp": AT,
        "action_id": UUID(int=2),
        "action_type": "Placed",
        "epoch": 1,
        "lease_id": UUID(int=3),
        "correlation_id": UUID(int=4),
        "chain": HASH,
    },
    ModelWorkflowProjection: {
        "workflow_key": "order:1",
        "version": 1,
        "tag": "open",
        "last_action": "Placed",
        "namespace": "shop",
        "updated_at": AT,
        "indices": {"total": 40},
        "extras": {},
    },
    ModelProjectionWatermark: {"partition_id": "state-committed/3", "offset": 0, "updated_at": AT},
    ModelActionDedup: {
        "workflow_key": "order:1",
        "action_id": UUID(int=2),
        "request_hash": HASH,
        "result_hash": HASH,
        "version": 1,
        "outcome": {"event": "StateCommitted"},
        "processed_at": AT,
        "expires_at": AT + timedelta(hours=6),
    },
    ModelDeadLetter: {
        "kind": "effect",
        "id": UUID(int=5),
        "workflow_key": "order:1",
        "type": "SendReceipt",
        "reason": "dead",
        "detail": "the gateway is down",
        "attempts": 5,
        "at": AT,
        "action_id": UUID(int=2),
        "reply_to": "order:1",
        "partition": 0,
        "offset": 7,
        "body": {"payload": {}},
    },
}
GOOD[ModelWorkflowState] = {
    "workflow_key": "order:1",
    "version": 1,
    "state": {"status": "open"},
    "updated_at": AT,
    "schema_version": 1,
    "provenance": ModelProvenance(**GOOD[ModelProvenance]),
}

every_row = pytest.mark.parametrize("row", GOOD, ids=lambda row: row.__name__)
every_field = pytest.mark.parametrize(
    ("row", "field"),
    [(row, field) for row, fields in GOOD.items() for field in fields],
    ids=lambda value: getattr(value, "__name__", value),
)


def test_every_row_is_tried_here() -> None:
    assert {row.__name__ for row in GOOD} == set(entities.__all__)


@every_row
def test_a_row_is_what_its_columns_are(row: type[Row]) -> None:
    made = row(**GOOD[row])
    assert {field: getattr(made, field) for field in row.model_fields} == GOOD[row]


@every_row
def test_equal_rows_are_equal_values(row: type[Row]) -> None:
    assert row(**GOOD[row]) == row(**GOOD[row])


@every_field
def test_a_row_never_changes(row: type[Row], field: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(row(**GOOD[row]), field, GOOD[row][field])


@every_field
def test_no_column_may_be_missing(row: type[Row], field: str) -> None:
    fields = {name: value for name, value in GOOD[row].items() if name != field}
    with pytest.raises(ValidationError, match="Field required"):
        row(**fields)


@every_row
def test_what_is_no_column_is_refused(row: type[Row]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        row(**{**GOOD[row], "another": 1})


WRONG: Final[list[tuple[type[Row], str, list[object]]]] = [
    (
        ModelWorkflowState,
        "workflow_key",
        ["", "order", ":1", "a:\0", "a:\ud800", LONG_KEY, 1, None],
    ),
    (ModelWorkflowState, "version", [0, -1, "1", 1.0, True, None]),
    (ModelWorkflowState, "state", [None, [], "{}", {1: 1}]),
    (ModelWorkflowState, "updated_at", [NAIVE, AT.isoformat(), 0, None]),
    (ModelWorkflowState, "schema_version", [0, -1, "1", None]),
    (ModelWorkflowState, "provenance", [None, {}, "{}"]),
    (ModelProvenance, "effect_id", ["", "1", 1, None]),
    (ModelProvenance, "timestamp", [NAIVE, NAIVE.isoformat(), "yesterday", None]),
    (ModelProvenance, "action_id", ["", 1, None]),
    (ModelProvenance, "action_type", ["", None, 1]),
    (ModelProvenance, "epoch", ["first", 1.5]),
    (ModelProvenance, "lease_id", ["", 1]),
    (ModelProvenance, "correlation_id", ["", 1]),
    (ModelProvenance, "chain", ["", HASH[1:], HASH + "0", HASH.upper(), f"{HASH}\n", None]),
    (ModelWorkflowProjection, "workflow_key", ["", "order", LONG_KEY, None]),
    (ModelWorkflowProjection, "version", [0, "1", True, None]),
    (ModelWorkflowProjection, "tag", ["x" * 513, "ö" * 257, "a\0", "\ud800", 1, None]),
    (ModelWorkflowProjection, "last_action", [1]),
    (ModelWorkflowProjection, "namespace", ["x" * 513, "ö" * 257, "a\0", "\ud800", 1, None]),
    (ModelWorkflowProjection, "updated_at", [NAIVE, AT.isoformat(), None]),
    (ModelWorkflowProjection, "indices", [[], "{}", {1: 1}]),
    (ModelWorkflowProjection, "extras", [[], "{}", {1: 1}]),
    (
        ModelProjectionWatermark,
        "partition_id",
        ["", "3", "state-committed", "state-committed/", "/3", "State/3", "a/-1", "a/3\n", 3, None],
    ),
    (ModelProjectionWatermark, "offset", [-1, "0", 0.0, False, None]),
    (ModelProjectionWatermark, "updated_at", [NAIVE, None]),
    (ModelActionDedup, "workflow_key", ["", "order", LONG_KEY, None]),
    (ModelActionDedup, "action_id", ["", str(UUID(int=2)), 2, None]),
    (ModelActionDedup, "request_hash", ["", HASH[1:], HASH.upper(), None]),
    (ModelActionDedup, "result_hash", ["", HASH + "0", None]),
    (ModelActionDedup, "version", [-1, "1", True]),
    (ModelActionDedup, "outcome", [None, [], "{}"]),
    (ModelActionDedup, "processed_at", [NAIVE, None]),
    (ModelActionDedup, "expires_at", [NAIVE, "-infinity", "never", None]),
    (ModelDeadLetter, "kind", ["", "letter", None]),
    (ModelDeadLetter, "id", ["", str(UUID(int=5)), None]),
    (ModelDeadLetter, "workflow_key", ["", "order", LONG_KEY, None]),
    (ModelDeadLetter, "type", ["", 1, None]),
    (ModelDeadLetter, "reason", ["", "weather", None]),
    (ModelDeadLetter, "detail", [1, None]),
    (ModelDeadLetter, "attempts", [-1, "5", None]),
    (ModelDeadLetter, "at", [NAIVE, None]),
    (ModelDeadLetter, "action_id", ["", 2, None]),
    (ModelDeadLetter, "reply_to", ["", 1]),
    (ModelDeadLetter, "partition", [-1, "0", None]),
    (ModelDeadLetter, "offset", [-1, "7", None]),
    (ModelDeadLetter, "body", [None, [], "{}"]),
]


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        pytest.param(row, field, value, id=f"{row.__name__}-{field}-{number}")
        for row, field, values in WRONG
        for number, value in enumerate(values)
    ],
)
def test_a_value_out_of_its_columns_bounds_is_refused(
    row: type[Row], field: str, value: object
) -> None:
    with pytest.raises(ValidationError) as refused:
        row(**{**GOOD[row], field: value})
    assert {error["loc"][0] for error in refused.value.errors()} == {field}


def test_every_column_is_tried_with_what_is_wrong() -> None:
    assert {(row, field) for row, field, _ in WRONG} == {
        (row, field) for row, fields in GOOD.items() for field in fields
    }


@pytest.mark.parametrize(
    ("row", "field", "values"),
    [
        (ModelWorkflowState, "workflow_key", ["a:b", LONG_KEY[:-1], "ö:日"]),
        (ModelWorkflowState, "version", [1, 2**63 - 1]),
        (ModelWorkflowState, "state", [{}, {"deep": [{"a": None}]}]),
        (ModelWorkflowState, "updated_at", [AT.astimezone(timezone(timedelta(hours=-7)))]),
        (ModelProvenance, "epoch", [None, 0]),
        (ModelProvenance, "lease_id", [None]),
        (ModelProvenance, "correlation_id", [None]),
        (ModelWorkflowProjection, "tag", ["", "x" * 512, "ö" * 256]),
        (ModelWorkflowProjection, "last_action", [None]),
        (ModelWorkflowProjection, "indices", [None, {}]),
        (ModelWorkflowProjection, "extras", [None, {}]),
        (ModelProjectionWatermark, "partition_id", ["action/0", "fsm-state-transitioned/1023"]),
        (ModelProjectionWatermark, "offset", [0, 2**63 - 1]),
        (ModelActionDedup, "version", [None, 0]),
        (ModelActionDedup, "expires_at", ["infinity", AT]),
    ],
)
def test_a_value_at_its_columns_bounds_is_taken(
    row: type[Row], field: str, values: list[object]
) -> None:
    for value in values:
        assert getattr(row(**{**GOOD[row], field: value}), field) == value


def test_an_outcome_is_not_forgotten_before_it_was_there() -> None:
    fields = GOOD[ModelActionDedup] | {"expires_at": AT - timedelta(microseconds=1)}
    with pytest.raises(ValidationError, match="expires_at lies before processed_at"):
        ModelActionDedup(**fields)


def test_ids_and_times_stand_as_text_in_the_provenance_column() -> None:
    fields: Fields = {
        field: str(value) if isinstance(value, UUID) else value
        for field, value in GOOD[ModelProvenance].items()
    }
    fields["timestamp"] = "2011-10-01T00:38:44.546000+00:00"
    made = ModelProvenance(**fields)
    assert made == ModelProvenance(**GOOD[ModelProvenance])
    state = ModelWorkflowState(**{**GOOD[ModelWorkflowState], "provenance": fields})
    assert state.provenance == made
