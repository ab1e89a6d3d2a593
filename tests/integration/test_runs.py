"""Runs on PostgreSQL: steps one after another and beside each other, failure, and its undoing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from omninode_bridge import (
    Bridge,
    ConfigurationError,
    EffectCall,
    GaveUp,
    InvalidAction,
    ReducerGaveUp,
    RunFailed,
    RunIdReused,
    RunUnknown,
)
from omninode_bridge.core.orchestration import NESTING_MAX
from omninode_bridge.infrastructure.contracts import run_contract_of
from omninode_bridge.nodes.models import ModelContractOrchestrator
from tests.bridges import fetch, until
from tests.integration.shop import Cards, charge, contract, reserve, shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from omninode_bridge import RunOutcome

ORDER = {"sku": "tea", "quantity": 2, "amount": 40}


@pytest.fixture
def cards() -> Cards:
    return Cards()


@pytest.fixture
async def bridge(database_url: str, cards: Cards) -> AsyncIterator[Bridge]:
    async with Bridge.open(shop(cards), database_url=database_url) as bridge:
        yield bridge


async def left(bridge: Bridge, sku: str = "tea") -> int:
    """Return what is left of the stock."""
    state = await bridge.state(f"stock:{sku}")
    return 100 if state is None else state.state["left"]


async def attempted(bridge: Bridge, workflow_id: str, name: str, attempts: int) -> None:
    """Wait until a step has been asked for so often."""
    async with asyncio.timeout(20):
        while True:
            found = await bridge.run_outcome(workflow_id)
            if found is not None and found.step(name).attempts >= attempts:
                return
            await asyncio.sleep(0.01)


def statuses(outcome: RunOutcome) -> dict[str, str]:
    """Return the statuses of the steps by name."""
    return {step.name: step.status for step in outcome.steps}


def holding(name: str, sku: str, **policy: Any) -> dict[str, Any]:  # noqa: ANN401 - handed on as they are
    """Return a step like `reserve`, of another name and on another key."""
    step = reserve(**policy) | {"name": name}
    step["action"] = step["action"] | {"key": f"stock:{sku}"}
    if isinstance(step["undo"], dict):
        step["undo"] = {"action": step["undo"]["action"] | {"key": f"stock:{sku}"}}
    return step


async def test_a_run_of_two_steps_completes(bridge: Bridge, cards: Cards) -> None:
    outcome = await bridge.run(contract(reserve(), charge()), ORDER, workflow_id="1")
    assert outcome.completed().status == "COMPLETED"
    assert statuses(outcome) == {"reserve": "DONE", "charge": "DONE"}
    assert outcome.step("reserve").version == 1
    assert outcome.step("charge").result == {"charge_id": "charge of 1/charge", "amount": 40}
    assert [step.order for step in outcome.steps] == [1, 2]
    assert cards.charged == {"1/charge": 40}
    assert await left(bridge) == 98
    await bridge.settled()
    assert (await bridge.verify()).mismatches == []


async def test_the_direct_path_carries_runs_too(database_url: str, cards: Cards) -> None:
    app = shop(cards)
    async with Bridge.open(app, database_url=database_url, pure_reducer=False) as bridge:
        outcome = await bridge.run(contract(reserve(), charge()), ORDER)
        assert outcome.status == "COMPLETED"
        outcome = await bridge.run(contract(reserve(), charge()), ORDER | {"amount": 13})
        assert outcome.status == "COMPENSATED"


async def test_the_orchestrators_door_leads_to_runs(bridge: Bridge) -> None:
    asked = ModelContractOrchestrator(
        workflow_id="1", contract=contract(reserve(), charge()), input=dict(ORDER)
    )
    told = await bridge.nodes.orchestrator.orchestrate_workflow(asked)
    assert told.outcome == await bridge.run_outcome("1")
    assert told.outcome.status == "COMPLETED"
    again = await bridge.orchestrator_node().orchestrate_workflow(asked)
    assert again.outcome == told.outcome


async def test_a_declared_workflow_is_run_by_its_name(database_url: str, cards: Cards) -> None:
    app = shop(cards)
    app.workflow(contract(reserve()))
    async with Bridge.open(app, database_url=database_url) as bridge:
        assert (await bridge.run("order", ORDER)).status == "COMPLETED"
        with pytest.raises(ConfigurationError, match="declared: order"):
            await bridge.run("odrer", ORDER)


async def test_steps_that_do_not_depend_on_each_other_are_asked_for_at_once(
    bridge: Bridge,
) -> None:
    steps = [holding(name, name) for name in ("a", "b", "c")]
    last = holding("last", "last", depends_on=["a", "b", "c"])
    outcome = await bridge.run(contract(*steps, last), ORDER)
    assert outcome.status == "COMPLETED"
    asked = {step.name: step.asked_at for step in outcome.steps}
    assert asked["a"] == asked["b"] == asked["c"] == outcome.started_at
    assert outcome.step("last").order == 4


async def test_a_run_that_fails_undoes_what_committed_newest_first(
    bridge: Bridge, cards: Cards
) -> None:
    ship = holding("ship", "nothing", depends_on=["charge"], undo="none")
    ship["action"] |= {"payload": {"order": "{workflow_id}", "quantity": 101}}
    outcome = await bridge.run(contract(reserve(), charge(), ship), ORDER, workflow_id="1")
    assert outcome.status == "COMPENSATED"
    assert outcome.detail == "step ship: rejected: only 100 are left"
    assert statuses(outcome) == {"reserve": "UNDONE", "charge": "UNDONE", "ship": "FAILED"}
    undone = [outcome.step(name).undone_at or "" for name in ("reserve", "charge")]
    assert undone[0] > undone[1]
    assert cards.refunded == ["1/charge"]
    assert await left(bridge) == 100
    with pytest.raises(RunFailed, match="run 1 is COMPENSATED"):
        outcome.completed()


async def test_on_failure_fail_leaves_what_committed(bridge: Bridge) -> None:
    failing = charge(on_failure="fail")
    outcome = await bridge.run(contract(reserve(), failing), ORDER | {"amount": 13})
    assert outcome.status == "FAILED"
    assert outcome.detail == "step charge: dead: the card has no money"
    assert await left(bridge) == 98


async def test_on_failure_continue_goes_on_without_the_step(bridge: Bridge) -> None:
    optional = charge(on_failure="continue")
    last = holding("last", "last", depends_on=["charge"])
    outcome = await bridge.run(contract(reserve(), optional, last), ORDER | {"amount": 13})
    assert outcome.status == "COMPLETED"
    assert statuses(outcome) == {"reserve": "DONE", "charge": "FAILED", "last": "DONE"}


async def test_a_dead_effect_that_may_have_happened_is_undone(bridge: Bridge, cards: Cards) -> None:
    outcome = await bridge.run(contract(reserve(), charge()), ORDER | {"amount": 98})
    assert outcome.status == "COMPENSATED"
    assert statuses(outcome) == {"reserve": "UNDONE", "charge": "UNDONE"}
    assert len(cards.refunded) == 1


async def test_an_effect_out_of_time_is_cancelled_and_undone_for_it_may_have_happened(
    bridge: Bridge, cards: Cards
) -> None:
    slow = charge(timeout_ms=200)
    outcome = await bridge.run(contract(reserve(), slow), ORDER | {"amount": 99}, workflow_id="1")
    assert outcome.status == "COMPENSATED"
    assert outcome.detail == "step charge: timeout: no answer within 200 ms"
    assert cards.charged.keys() == set(cards.refunded)
    assert cards.calls == ["charge", "refund"]
    assert await left(bridge) == 100


async def test_an_optional_effect_out_of_time_does_not_fail_the_run(
    bridge: Bridge, cards: Cards
) -> None:
    optional = charge(timeout_ms=200, on_failure="continue")
    last = holding("last", "last", depends_on=["charge"])
    outcome = await bridge.run(contract(reserve(), optional, last), ORDER | {"amount": 99})
    assert outcome.status == "COMPLETED"
    assert statuses(outcome)["charge"] == "FAILED"
    assert cards.refunded == []


async def test_a_poison_action_is_retried_with_jitter_and_not_for_ever(bridge: Bridge) -> None:
    retry = {"attempts": 4, "base_ms": 20, "cap_ms": 60}
    poison = holding("poison", "poison", retry=retry)
    poison["action"] |= {"type": "Broken"}
    outcome = await bridge.run(contract(poison), ORDER)
    assert outcome.status == "COMPENSATED"
    step = outcome.step("poison")
    assert (step.status, step.attempts, step.reason) == ("FAILED", 4, "reducer_error")
    assert "a reducer with a fault" in (step.detail or "")


async def test_a_rejection_is_a_decision_and_is_retried_only_on_demand(bridge: Bridge) -> None:
    for on, attempts in (([], 1), (["rejected"], 3)):
        retry: dict[str, Any] = {"attempts": 3, "base_ms": 10, "cap_ms": 20}
        step = reserve(retry=retry | ({"reasons": on} if on else {}))
        outcome = await bridge.run(contract(step), ORDER | {"quantity": 101})
        assert outcome.step("reserve").attempts == attempts


async def test_what_a_run_asked_for_is_redriven_only_when_that_is_forced(
    database_url: str,
) -> None:
    flaky, calls = shop(), list[str]()

    @flaky.effect("ChargeCard", attempts=1)
    async def _(call: EffectCall) -> dict[str, Any]:
        calls.append(str(call.intent_id))
        if len(calls) == 1:
            raise ConnectionError("the bank is away")
        return {"charge_id": "1"}

    retry = {"attempts": 2, "base_ms": 10, "cap_ms": 20}
    steps = contract(reserve(), charge(retry=retry))
    flaky.effect("RefundCard")(Cards().refund)
    async with Bridge.open(flaky, database_url=database_url) as bridge:
        outcome = await bridge.run(steps, ORDER, workflow_id="1")
        assert outcome.status == "COMPLETED"
        (letter,) = await bridge.dead_letters()
        assert (str(letter.id), letter.reply_to) == (calls[0], "run:1")
        assert len(set(calls)) == 2, "the second attempt has an id of its own"
        with pytest.raises(ConfigurationError, match="asked for by run:1"):
            await bridge.redrive(letter)
        assert await bridge.dead_letters() == [letter]
        assert await bridge.redrive(letter, force=True)
        await until(lambda: calls[2:] == calls[:1], "the step, for the second time")
        await bridge.settled()
        assert (await bridge.run_outcome("1")) == outcome, "the run is over"


async def test_a_retry_succeeds_when_the_world_has_changed(bridge: Bridge) -> None:
    retry = {"attempts": 50, "base_ms": 20, "cap_ms": 50, "reasons": ["rejected"]}
    await bridge.submit("stock:tea", "Reserved", {"order": "other", "quantity": 100})
    run = asyncio.create_task(bridge.run(contract(reserve(retry=retry)), ORDER, workflow_id="1"))
    await attempted(bridge, "1", "reserve", 3)
    await bridge.submit("stock:tea", "Released", {"order": "other"})
    outcome = await run
    assert outcome.status == "COMPLETED"
    assert outcome.step("reserve").attempts > 2


async def test_a_run_out_of_time_goes_on(bridge: Bridge, cards: Cards) -> None:
    with pytest.raises(RunUnknown, match="It goes on") as caught:
        await bridge.run(
            contract(reserve(), charge()), ORDER | {"amount": 99}, workflow_id="1", timeout=0.3
        )
    assert caught.value.workflow_id == "1"
    assert caught.value.waited_s == 0.3
    found = await bridge.run_outcome("1")
    assert found is not None
    assert found.status == "RUNNING"
    cards.hold.set()
    outcome = await bridge.run(
        contract(reserve(), charge()), ORDER | {"amount": 99}, workflow_id="1"
    )
    assert outcome.status == "COMPLETED"
    assert cards.calls == ["charge"]


async def test_started_twice_it_is_one_run(bridge: Bridge, cards: Cards) -> None:
    started = [bridge.run(contract(reserve(), charge()), ORDER, workflow_id="1") for _ in range(5)]
    outcomes = await asyncio.gather(*started)
    assert len(set(map(str, outcomes))) == 1
    assert cards.calls == ["charge"]
    again = await bridge.run(contract(reserve(), charge()), ORDER, workflow_id="1")
    assert again == outcomes[0]


async def test_one_id_with_another_input_is_refused(bridge: Bridge) -> None:
    await bridge.run(contract(reserve()), ORDER, workflow_id="1")
    with pytest.raises(RunIdReused, match="run 1 was already started with another contract or in"):
        await bridge.run(contract(reserve()), ORDER | {"quantity": 3}, workflow_id="1")


async def test_another_process_is_told_too_that_an_id_is_that_of_another_run(
    bridge: Bridge, database_url: str, cards: Cards
) -> None:
    first = await bridge.run(contract(reserve()), ORDER, workflow_id="1")
    async with Bridge.open(shop(cards), database_url=database_url) as second:
        assert await second.run(contract(reserve()), ORDER, workflow_id="1") == first
        for steps, given in (
            (contract(reserve()), ORDER | {"quantity": 3}),
            (contract(reserve(timeout_ms=9_000)), ORDER),
        ):
            with pytest.raises(RunIdReused) as caught:
                await second.run(steps, given, workflow_id="1")
            assert (caught.value.workflow_id, caught.value.reason) == ("1", "id_reused")
    assert await bridge.run_outcome("1") == first


async def test_what_is_no_input_is_refused_before_anything_begins(bridge: Bridge) -> None:
    for given, field in (
        (ORDER | {"amount": float("nan")}, "input.amount"),
        ([1, 2], "input"),
        (None, "input"),
    ):
        with pytest.raises(InvalidAction) as caught:
            await bridge.run(contract(reserve()), given, workflow_id="1")  # type: ignore[arg-type]
        assert caught.value.field == field
    assert await bridge.run_outcome("1") is None


async def test_a_run_that_asks_for_effects_nobody_declares_here_does_not_begin(
    database_url: str,
) -> None:
    app = shop()
    app.workflow(contract(reserve(), charge()))
    async with Bridge.open(app, database_url=database_url) as bridge:
        for steps in ("order", contract(reserve(), charge())):
            with pytest.raises(ConfigurationError, match="not declare: ChargeCard, RefundCard"):
                await bridge.run(steps, ORDER, workflow_id="1")
        assert await bridge.run_outcome("1") is None
        assert (await bridge.run(contract(reserve()), ORDER, workflow_id="1")).is_over


async def test_a_result_that_is_nested_deep_stops_no_run(database_url: str, cards: Cards) -> None:
    for number, depth in enumerate((NESTING_MAX, 150, 200)):
        app = shop(cards)

        @app.effect("Deep")
        async def _(call: EffectCall, depth: int = depth) -> dict[str, Any]:
            deep: Any = call.attempt
            for _ in range(depth - 1):
                deep = [deep]
            return {"deep": deep}

        step = {"name": "deep", "effect": {"name": "Deep"}, "undo": "none"}
        last = reserve(depends_on=["deep"])
        async with Bridge.open(app, database_url=database_url) as bridge:
            outcome = await bridge.run(contract(step, last), ORDER, workflow_id=str(number))
            assert outcome.status == "COMPLETED"
            assert (outcome.step("deep").result is None) == (depth > NESTING_MAX)
            await bridge.settled()
            assert (await bridge.verify()).mismatches == []


@pytest.mark.parametrize("pure_reducer", [True, False])
async def test_a_step_behind_one_out_of_time_has_all_of_its_own_time(
    database_url: str,
    pure_reducer: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    app = shop()

    @app.effect("Hang")
    async def _(_: EffectCall) -> None:
        await asyncio.Event().wait()

    @app.effect("Take")
    async def _(_: EffectCall) -> None:
        await asyncio.sleep(0.2)

    first = {"name": "a", "effect": {"name": "Hang"}, "undo": "none", "on_failure": "continue"}
    second = {"name": "b", "effect": {"name": "Take"}, "undo": "none", "depends_on": ["a"]}
    steps = contract(first | {"timeout_ms": 1_500}, second | {"timeout_ms": 1_200})
    async with Bridge.open(app, database_url=database_url, pure_reducer=pure_reducer) as bridge:
        outcome = await bridge.run(steps, {}, workflow_id="1")
        assert (outcome.status, statuses(outcome)) == ("COMPLETED", {"a": "FAILED", "b": "DONE"})
        assert outcome.step("a").reason == "timeout"
        await bridge.settled()
        assert (await bridge.verify()).mismatches == []


@pytest.mark.parametrize("wrong", [timedelta(hours=-1), timedelta(hours=1)])
async def test_a_step_has_its_time_whatever_the_clock_of_who_starts_the_run(
    bridge: Bridge, cards: Cards, wrong: timedelta
) -> None:
    steps = run_contract_of(contract(reserve(timeout_ms=20_000), charge(timeout_ms=1_000)))
    said = {"contract": steps.as_document(), "input": ORDER | {"amount": 99}}
    at = datetime.now(UTC) + wrong
    (await bridge.submit("run:1", "RunStarted", said, occurred_at=at)).committed()
    found = await bridge.run(steps, ORDER | {"amount": 99}, workflow_id="1")
    assert found.step("reserve").version == 1
    assert found.detail == "step charge: timeout: no answer within 1000 ms"
    assert cards.refunded == ["1/charge"]


async def test_a_run_is_the_same_when_its_start_is_no_longer_remembered(
    bridge: Bridge, database_url: str
) -> None:
    first = await bridge.run(contract(reserve()), ORDER, workflow_id="1")
    await forget(database_url)
    assert await bridge.run(contract(reserve()), ORDER, workflow_id="1") == first


async def forget(database_url: str) -> None:
    """Forget all outcomes, as time does."""
    await fetch(database_url, "DELETE FROM action_dedup_log")


async def test_what_the_input_lacks_is_said_before_anything_begins(bridge: Bridge) -> None:
    with pytest.raises(GaveUp, match=r"\{input.quantity\} leads nowhere: input has no 'quantity'"):
        await bridge.run(contract(reserve()), {"sku": "tea"}, workflow_id="1")
    assert await bridge.run_outcome("1") is None
    assert (await bridge.run(contract(reserve()), ORDER, workflow_id="1")).status == "COMPLETED"


async def test_a_step_whose_key_nobody_reduces_fails_the_run(bridge: Bridge) -> None:
    lost = holding("lost", "x", undo="none")
    lost["action"] |= {"key": "nobody:{input.sku}"}
    outcome = await bridge.run(contract(lost), ORDER)
    assert outcome.status == "COMPENSATED"
    assert outcome.step("lost").reason == "invalid"


async def test_an_undo_that_fails_is_named_and_the_others_go_on(bridge: Bridge) -> None:
    stubborn = holding("stubborn", "stubborn", depends_on=["reserve"])
    stubborn["undo"]["action"] |= {"type": "Kept"}
    failing = holding("failing", "failing", depends_on=["stubborn"], undo="none")
    failing["action"] |= {"payload": {"quantity": 101}}
    outcome = await bridge.run(contract(reserve(), stubborn, failing), ORDER)
    assert outcome.status == "COMPENSATION_FAILED"
    assert statuses(outcome) == {
        "reserve": "UNDONE",
        "stubborn": "UNDO_FAILED",
        "failing": "FAILED",
    }
    assert outcome.step("stubborn").undo_reason == "rejected"


async def test_a_person_can_cancel_a_run(bridge: Bridge, cards: Cards) -> None:
    run = asyncio.create_task(
        bridge.run(contract(reserve(), charge()), ORDER | {"amount": 99}, workflow_id="1")
    )
    await until(lambda: bool(cards.calls), "the charge begins")
    (await bridge.cancel_run("1", "changed my mind")).committed()
    outcome = await run
    assert (outcome.status, outcome.detail) == ("COMPENSATED", "cancelled: changed my mind")
    assert cards.charged.keys() == set(cards.refunded)
    assert await left(bridge) == 100
    late = await bridge.cancel_run("1")
    assert isinstance(late, ReducerGaveUp)
    assert late.detail == "the run is over: it is COMPENSATED"


async def test_words_of_an_orchestrator_that_was_followed_by_another_are_stale(
    database_url: str, bridge: Bridge, cards: Cards
) -> None:
    given: Mapping[str, Any] = ORDER | {"amount": 99}
    run = asyncio.create_task(bridge.run(contract(reserve(), charge()), given, workflow_id="1"))
    await until(lambda: bool(cards.calls), "the charge begins")
    async with Bridge.open(shop(cards), database_url=database_url) as second:
        assert await second.take_over("1") == 2
        late = await bridge.cancel_run("1", epoch=1, lease_id=bridge.lease_id)
        assert isinstance(late, ReducerGaveUp)
        assert late.reason == "stale_epoch"
        other = await second.cancel_run("1", epoch=2, lease_id=uuid4())
        assert isinstance(other, ReducerGaveUp)
        assert other.reason == "lease_mismatch"
        cards.hold.set()
        outcome = await second.run(contract(reserve(), charge()), given, workflow_id="1")
        assert outcome == await run
        assert (outcome.status, outcome.epoch) == ("COMPLETED", 2)
        with pytest.raises(GaveUp, match="the run is over"):
            await second.take_over("1")


async def test_who_joins_a_run_with_a_higher_epoch_takes_it_over(
    database_url: str, bridge: Bridge, cards: Cards
) -> None:
    given: Mapping[str, Any] = ORDER | {"amount": 99}
    steps = contract(reserve(), charge())
    run = asyncio.create_task(bridge.run(steps, given, workflow_id="1", epoch=1))
    await until(lambda: bool(cards.calls), "the charge begins")
    async with Bridge.open(shop(cards), database_url=database_url) as second:
        asked = ModelContractOrchestrator(
            workflow_id="1", contract=steps, input=dict(given), epoch=2, lease_id=second.lease_id
        )
        taking = asyncio.create_task(second.nodes.orchestrator.orchestrate_workflow(asked))
        async with asyncio.timeout(20):
            while (found := await second.run_outcome("1")) is None or found.epoch != 2:
                assert not taking.done()
                await asyncio.sleep(0.01)
        late = await bridge.cancel_run("1", epoch=1, lease_id=bridge.lease_id)
        assert isinstance(late, ReducerGaveUp)
        assert late.reason == "stale_epoch"
        # Who comes with the epoch that there is, or a lower one, looks on.
        lookers = [
            asyncio.create_task(bridge.run(steps, given, workflow_id="1", epoch=epoch))
            for epoch in (1, 2)
        ]
        cards.hold.set()
        outcome = (await taking).outcome
        assert (outcome.status, outcome.epoch) == ("COMPLETED", 2)
        assert [await looker for looker in lookers] == [outcome, outcome]
        assert await run == outcome
    types = [line["action"]["type"] for line in await bridge.history("run:1")]
    assert types.count("RunTakenOver") == 1


async def test_who_starts_a_run_with_any_epoch_need_not_take_it_over(bridge: Bridge) -> None:
    outcome = await bridge.run(contract(reserve()), ORDER, workflow_id="1", epoch=7)
    assert outcome.epoch == 7
    assert await bridge.run(contract(reserve()), ORDER, workflow_id="1", epoch=9) == outcome
    types = [line["action"]["type"] for line in await bridge.history("run:1")]
    assert "RunTakenOver" not in types


async def test_runs_are_listed_by_their_status(bridge: Bridge) -> None:
    for number in range(3):
        await bridge.run(contract(reserve()), ORDER, workflow_id=str(number))
    await bridge.run(contract(reserve()), ORDER | {"quantity": 101}, workflow_id="4")
    await bridge.settled()
    found = await bridge.runs()
    assert [row.workflow_key for row in found] == ["run:0", "run:1", "run:2", "run:4"]
    assert found[0].namespace == "order"
    assert found[0].indices == {"steps": 1, "done": 1}
    found = await bridge.runs(tag="COMPLETED", after="0", limit=1)
    assert [row.workflow_key for row in found] == ["run:1"]
