"""One attempt of an effect: the call, and what an error of its handler comes to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import pytest

from omninode_bridge import DatabaseUnavailable, EffectRefused
from omninode_bridge.core.effect_attempt import OutOfTime, call_of, raised
from omninode_bridge.core.effect_types import EffectType
from omninode_bridge.core.effects import (
    RESULT_NESTING_MAX,
    EndedEffect,
    LoggedIntent,
    OpenEffect,
    ParkedEffect,
    done,
)
from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.reducer import DETAIL_CHARS_MAX, SealedIntent
from omninode_bridge.core.retry import Backoff
from omninode_bridge.infrastructure.codec import CanonicalCodec
from tests.unit.test_nesting import nested

CODEC: Final = CanonicalCodec()
AT: Final = datetime(2025, 1, 1, tzinfo=UTC)
INTENT: Final = SealedIntent(UUID(int=1), "mail", "ann", b'{"n":1}')
EFFECT: Final = OpenEffect(LoggedIntent(7, INTENT, UUID(int=2), None, 0, AT, "order:1"))


async def send(_: object) -> None:
    """Do nothing: here handlers are not called."""


MAIL: Final = EffectType("mail", send, Backoff(3, 100, 1_000), 5)


def after(
    error: BaseException, attempt: int = 1, *, is_cancelled: bool = False
) -> EndedEffect | ParkedEffect:
    """Return what becomes of the effect."""
    return raised(
        EFFECT, MAIL, attempt, error, CODEC, lambda low, _: low, is_cancelled=is_cancelled
    )


def test_a_handler_is_told_which_attempt_of_how_many_it_is() -> None:
    call = call_of(EFFECT, MAIL, 2, CODEC)
    assert (call.attempt, call.attempts) == (2, 3)
    assert (call.intent_id, call.target, call.payload) == (UUID(int=1), "ann", {"n": 1})
    assert (call.workflow_key, call.action_id, call.committed_at) == ("order:1", UUID(int=2), AT)


def test_each_call_has_a_payload_of_its_own() -> None:
    call_of(EFFECT, MAIL, 1, CODEC).payload["n"] = 2
    assert call_of(EFFECT, MAIL, 2, CODEC).payload == {"n": 1}


def test_a_result_that_is_nested_too_deep_ends_nothing_and_says_so() -> None:
    asked = replace(EFFECT.entry, intent=replace(INTENT, reply_to="order:1"))
    effect = replace(EFFECT, entry=asked)
    end = done(effect, 1, {"x": nested(RESULT_NESTING_MAX - 1)}, CODEC)
    assert [follow_up.target for follow_up in end.follow_ups] == ["order:1"]
    with pytest.raises(InvalidAction, match="result: is nested more than 200 deep"):
        done(effect, 1, {"x": nested(RESULT_NESTING_MAX)}, CODEC)


@pytest.mark.parametrize(
    "error", [ValueError("no"), OutOfTime(), TimeoutError(), asyncio.CancelledError()]
)
def test_an_error_parks_the_effect_until_the_last_attempt(error: BaseException) -> None:
    for attempt in (1, 2):
        match after(error, attempt):
            case ParkedEffect(attempts=attempts, due_in_s=due_in_s):
                assert (attempts, due_in_s) == (attempt, 0.1)
            case EndedEffect():
                pytest.fail("it has attempts left")
    match after(error, 3):
        case EndedEffect(status=status, attempts=attempts):
            assert (status, attempts) == ("dead", 3)
        case ParkedEffect():
            pytest.fail("it has no attempt left")


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_refusal_is_the_end_at_once(is_cancelled: bool) -> None:  # noqa: FBT001 - a parameter
    match after(EffectRefused("no such\0 address"), is_cancelled=is_cancelled):
        case EndedEffect(status=status, detail=detail):
            assert (status, detail) == ("dead", "no such\\0 address")
        case ParkedEffect():
            pytest.fail("it would be refused again")


@pytest.mark.parametrize(
    "error", [ValueError("no"), OutOfTime(), TimeoutError(), asyncio.CancelledError()]
)
def test_what_is_cancelled_is_tried_no_more(error: BaseException) -> None:
    match after(error, is_cancelled=True):
        case EndedEffect(status=status):
            assert status == "cancelled"
        case ParkedEffect():
            pytest.fail("it is to be tried no more")


def test_the_detail_says_what_happened_and_can_be_stored() -> None:
    assert after(OutOfTime()).detail.startswith("no end within 5 s\n")
    assert after(asyncio.CancelledError()).detail == "the handler was cancelled"
    assert after(ValueError("sixteen")).detail.endswith("ValueError: sixteen\n")
    for error in (ValueError("x" * 9_999), TimeoutError("x" * 9_999), EffectRefused("x" * 9_999)):
        assert len(after(error).detail) <= DETAIL_CHARS_MAX


@pytest.mark.parametrize(
    ("attempt", "redriven", "maybe_done"), [(1, 0, False), (2, 0, True), (1, 1, True)]
)
def test_a_refusal_says_of_its_own_attempt_only_that_it_did_nothing(
    attempt: int,
    redriven: int,
    maybe_done: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    asked = replace(EFFECT.entry, intent=replace(INTENT, reply_to="order:1"))
    refused = EffectRefused("no such card")
    effect = OpenEffect(asked, redriven=redriven)
    dead = raised(effect, MAIL, attempt, refused, CODEC, lambda low, _: low, is_cancelled=False)
    assert isinstance(dead, EndedEffect)
    (answer,) = dead.follow_ups
    assert CODEC.decode(answer.payload)["payload"]["maybe_done"] is maybe_done


def test_a_time_out_of_the_handlers_own_is_not_told_as_ours() -> None:
    assert after(OutOfTime()).detail.startswith("no end within 5 s")
    assert after(TimeoutError("the gateway is slow")).detail.endswith(
        "TimeoutError: the gateway is slow\n"
    )


@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize("error", [DatabaseUnavailable("lost"), ValueError("no")])
def test_only_what_writes_with_its_end_may_be_over_after_a_lost_reply(
    error: Exception,
    transactional: bool,  # noqa: FBT001 - a parameter
) -> None:
    effect_type = replace(MAIL, transactional=transactional)
    became = raised(*(EFFECT, effect_type, 1, error, CODEC), lambda low, _: low, is_cancelled=False)
    assert isinstance(became, ParkedEffect)
    assert became.maybe_over == (transactional and isinstance(error, DatabaseUnavailable))
