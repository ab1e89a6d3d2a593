"""Errors are one tree, carry fields, and say what happened, to what, and what to do."""

from __future__ import annotations

import inspect
from uuid import UUID

import pytest

from omninode_bridge.core import errors

ID = UUID(int=1)

EVERY_ERROR = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, Exception)
]


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_every_error_grows_on_one_tree(error: type[Exception]) -> None:
    assert issubclass(error, errors.BridgeError)


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_every_error_is_in_the_drawing_of_the_tree(error: type[Exception]) -> None:
    drawing = errors.__doc__ or ""
    assert f" {error.__name__}" in drawing


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(errors.InvalidAction, ValueError), (errors.OutcomeUnknown, TimeoutError)],
)
def test_what_python_has_a_word_for_can_be_caught_by_it(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


def test_a_refused_value_is_a_refusal() -> None:
    assert issubclass(errors.ValueRefused, errors.DatabaseRefused)


def test_an_invalid_action_names_the_field() -> None:
    error = errors.InvalidAction("payload", "must be an object")
    assert (error.field, error.detail) == ("payload", "must be an object")
    assert str(error) == "invalid payload: must be an object"


def test_a_give_up_tells_its_reason() -> None:
    error = errors.GaveUp("order:1", ID, "rejected", "too late")
    assert (error.workflow_key, error.action_id) == ("order:1", ID)
    assert (error.reason, error.detail) == ("rejected", "too late")
    assert str(error) == f"order:1: action {ID} was given up (rejected): too late"


def test_an_unknown_outcome_says_how_to_learn_it() -> None:
    error = errors.OutcomeUnknown("order:1", ID, 2.5)
    assert (error.workflow_key, error.action_id, error.waited_s) == ("order:1", ID, 2.5)
    assert "within 2.5 s" in str(error)
    assert "submit it again with the same action_id" in str(error)


def test_a_version_not_reached_tells_both() -> None:
    error = errors.VersionNotReached("order:1", 4, 2)
    assert (error.workflow_key, error.required_version, error.actual_version) == ("order:1", 4, 2)
    assert "version 4 was required, but the key is at 2" in str(error)


@pytest.mark.parametrize("error", [errors.DatabaseRefused, errors.ValueRefused])
def test_a_refusal_of_the_database_keeps_its_sqlstate(error: type[errors.DatabaseRefused]) -> None:
    refused = error("22003", "out of range")
    assert (refused.sqlstate, refused.detail) == ("22003", "out of range")
    assert str(refused) == "the database refused (SQLSTATE 22003): out of range"
