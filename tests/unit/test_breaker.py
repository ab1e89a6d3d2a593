"""A circuit breaker: a rest after each failure, and then one try."""

from __future__ import annotations

from omninode_bridge.core.breaker import Breaker


def test_what_works_may_be_tried_always() -> None:
    breaker = Breaker()
    assert breaker.may_try(0.0)
    breaker.worked()
    assert breaker.may_try(0.0)
    assert breaker.failures == 0


def test_what_has_failed_is_left_alone_for_a_while() -> None:
    breaker = Breaker(rest_s=5.0)
    breaker.failed(100.0)
    assert [breaker.may_try(now) for now in (100.0, 104.9)] == [False, False]


def test_after_the_rest_one_caller_tries_while_the_others_still_do_not() -> None:
    breaker = Breaker(rest_s=5.0)
    breaker.failed(100.0)
    assert [breaker.may_try(now) for now in (105.0, 105.0, 105.1)] == [True, False, False]
    breaker.worked()
    assert [breaker.may_try(now) for now in (105.2, 105.2)] == [True, True]


def test_a_failure_after_the_rest_is_another_rest() -> None:
    breaker = Breaker(rest_s=5.0)
    breaker.failed(100.0)
    assert breaker.may_try(106.0)
    breaker.failed(106.02)
    assert breaker.failures == 2
    assert [breaker.may_try(now) for now in (111.0, 111.1)] == [False, True]


def test_a_try_of_which_nothing_was_heard_is_a_rest_too() -> None:
    breaker = Breaker(rest_s=5.0)
    breaker.failed(100.0)
    assert [breaker.may_try(now) for now in (105.0, 109.0, 110.0)] == [True, False, True]
