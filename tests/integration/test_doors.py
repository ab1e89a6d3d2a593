"""The doors end to end on a real database: from an action to a committed state, and what comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from omninode_bridge import (
    App,
    Bridge,
    BridgeClosed,
    ConfigurationError,
    EventPublished,
    Observation,
    Transition,
)
from omninode_bridge.core import topics
from omninode_bridge.core.fsm import Way
from omninode_bridge.core.fsm_workflow import (
    AlreadyInitialized,
    IllegalTransition,
    StateDiffers,
    UnknownWorkflow,
)
from omninode_bridge.core.machine import WORKFLOW
from omninode_bridge.core.message import ReducerGaveUp, StateCommitted, StateConflict
from omninode_bridge.infrastructure.event_bus import PostgresEventBus
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.nodes.models import (
    ModelContractEffect,
    ModelContractOrchestrator,
    ModelReducerInput,
    ModelReducerOutput,
    ModelRejection,
)
from omninode_bridge.ports import StillUnknown
from tests.bridges import WAIT_S, app, fetch, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

LONG_MS = WAIT_S * 1_000
EVERY = (StateCommitted, StateConflict, ReducerGaveUp)


@pytest.fixture
async def bridge(database_url: str) -> AsyncIterator[Bridge]:
    async with Bridge.open(app, database_url=database_url) as opened:
        yield opened


async def processed(
    bridge: Bridge, payload: dict[str, Any], *, action_id: UUID, action_type: str = "Counted"
) -> ModelReducerOutput:
    """Reduce an action on the state that is stored."""
    row = await bridge.state("counter:1")
    document = {
        "data": {} if row is None else row.state,
        "metadata": {
            "version": 0 if row is None else row.version,
            "action": {
                "action_id": str(action_id),
                "workflow_key": "counter:1",
                "type": action_type,
                "payload": payload,
                "occurred_at": "2026-01-01T12:00:00+00:00",
            },
        },
    }
    return await bridge.nodes.reducer.process(ModelReducerInput.model_validate(document))


def persisting(output: ModelReducerOutput, **terms: Any) -> ModelContractEffect:  # noqa: ANN401 - handed on as they are
    """Return what the first intent asks the store effect for."""
    intent = output.intents[0]
    assert (intent.intent_type, intent.target) == ("PersistState", "store_effect")
    return ModelContractEffect(input_data={"operation": "persist_state", **intent.payload}, **terms)


def going(workflow_id: str, from_state: str, to_state: str, **more: object) -> ModelContractEffect:
    data = {"workflow_id": workflow_id, "from_state": from_state, "to_state": to_state}
    return ModelContractEffect(input_data={"operation": "fsm_transition", **data, **more})


async def verified(bridge: Bridge) -> None:
    """Demand that the whole history folds to what is stored."""
    await bridge.settled()
    verification = await bridge.verify()
    assert (verification.mismatches, verification.unregistered) == ([], {})


# -- from the reducer's door through the store effect's --------------------------------------------


async def test_what_the_reducer_proposes_the_store_effect_commits_and_tells(
    bridge: Bridge,
) -> None:
    action_id, lease_id, correlation_id = uuid4(), uuid4(), uuid4()
    waiting = bridge.event_bus.expect(EVERY, action_id)
    output = await processed(bridge, {"amount": 4}, action_id=action_id)
    effect = persisting(output, epoch=3, lease_id=lease_id, correlation_id=correlation_id)
    answer = await bridge.nodes.store_effect.execute_effect(effect)
    assert isinstance(answer, StateCommitted)
    assert (answer.workflow_key, answer.version) == ("counter:1", 1)
    assert await waiting.within(LONG_MS) == answer
    row = await bridge.state("counter:1")
    assert row is not None
    assert (row.version, row.state) == (1, output.result)
    told = row.provenance
    assert (told.effect_id, told.action_id, told.action_type) == (
        effect.effect_id,
        action_id,
        "StateReplaced",
    )
    assert (told.epoch, told.lease_id, told.correlation_id) == (3, lease_id, correlation_id)
    assert told.chain == answer.provenance.chain
    await verified(bridge)


async def test_doors_and_workers_commit_to_one_key_in_turns(bridge: Bridge) -> None:
    for n in range(5):
        (await bridge.submit("counter:1", "Counted", {"amount": 1})).committed()
        output = await processed(bridge, {"amount": 1}, action_id=uuid4())
        answer = await bridge.nodes.store_effect.execute_effect(persisting(output))
        assert isinstance(answer, StateCommitted)
        assert answer.version == 2 * n + 2
    row = await bridge.state("counter:1")
    assert row is not None
    assert row.state == {"count": 10, "total": 10}
    await verified(bridge)


async def test_a_stale_proposal_conflicts_tells_the_actual_version_and_writes_nothing(
    database_url: str,
) -> None:
    facts: list[Observation] = []
    async with Bridge.open(app, database_url=database_url, observe=facts.append) as bridge:
        action_id = uuid4()
        output = await processed(bridge, {"amount": 4}, action_id=action_id)
        await bridge.submit_many([("counter:1", "Counted", {"amount": 1})] * 2)
        before = await fetch(database_url, "SELECT * FROM workflow_state")
        waiting = bridge.event_bus.expect(EVERY, action_id)
        answer = await bridge.nodes.store_effect.execute_effect(persisting(output))
        assert answer == StateConflict("counter:1", 0, 2, action_id)
        assert await waiting.within(LONG_MS) == answer
        assert await fetch(database_url, "SELECT * FROM workflow_state") == before
        assert list(await bridge.explain(action_id)) == []
        published = [fact for fact in facts if isinstance(fact, EventPublished)]
        assert published == [EventPublished(topics.STATE_CONFLICT, "StateConflict", 1)]


async def test_of_several_proposals_on_one_version_one_is_committed(bridge: Bridge) -> None:
    outputs = [await processed(bridge, {"amount": n}, action_id=uuid4()) for n in range(5)]
    execute = bridge.nodes.store_effect.execute_effect
    answers = await asyncio.gather(*(execute(persisting(output)) for output in outputs))
    assert sum(isinstance(answer, StateCommitted) for answer in answers) == 1
    lost = [answer for answer in answers if isinstance(answer, StateConflict)]
    assert [answer.actual_version for answer in lost] == [1] * 4
    await verified(bridge)


async def test_a_proposal_that_is_persisted_twice_is_persisted_once(bridge: Bridge) -> None:
    output = await processed(bridge, {"amount": 4}, action_id=uuid4())
    first = await bridge.nodes.store_effect.execute_effect(persisting(output))
    again = await bridge.nodes.store_effect.execute_effect(persisting(output))
    assert again == first
    row = await bridge.state("counter:1")
    assert row is not None
    assert row.version == 1


async def test_a_rejection_asks_for_nothing(bridge: Bridge) -> None:
    output = await processed(bridge, {}, action_id=uuid4(), action_type="Refused")
    assert isinstance(output.result, ModelRejection)
    assert (output.result.reason, output.result.detail) == ("rejected", "as you wished")
    assert output.intents == ()


# -- state machines --------------------------------------------------------------------------------


async def test_a_workflow_goes_its_way_and_each_step_is_on_the_topic(
    bridge: Bridge, database_url: str
) -> None:
    for n in range(8):
        begun = await bridge.fsm.initialize_workflow(str(n), {"n": n})
        assert isinstance(begun, StateCommitted)
        for step in (("PENDING", "PROCESSING"), ("PROCESSING", "COMPLETED")):
            answer = await bridge.nodes.store_effect.execute_effect(going(str(n), *step))
            assert isinstance(answer, StateCommitted)
    rows = await fetch(
        database_url,
        "SELECT partition, \"offset\", workflow_key, action_id, body ->> 'version' AS version"
        ' FROM event_log_fsm_state_transitioned ORDER BY partition, "offset"',
    )
    assert len(rows) == 16
    for partition in {row["partition"] for row in rows}:
        offsets = [row["offset"] for row in rows if row["partition"] == partition]
        assert offsets == list(range(1, len(offsets) + 1))
    history = await bridge.fsm.get_transition_history("3")
    assert [entry.version for entry in history] == [2, 3]
    mine = [row for row in rows if row["workflow_key"] == "fsm:3"]
    assert [int(row["version"]) for row in mine] == [2, 3]
    row = await bridge.read("fsm:3", required_version=3)
    assert row is not None
    assert (row.tag, row.namespace) == ("COMPLETED", "fsm-ended")
    await verified(bridge)


async def test_an_illegal_transition_says_what_was_allowed_and_changes_nothing(
    bridge: Bridge,
) -> None:
    await bridge.fsm.initialize_workflow("17")
    action_id = uuid4()
    waiting = bridge.event_bus.expect(EVERY, action_id)
    answer = await bridge.nodes.store_effect.execute_effect(
        going("17", "PENDING", "COMPLETED", action_id=str(action_id))
    )
    assert isinstance(answer, IllegalTransition)
    assert (answer.state, answer.to_state) == ("PENDING", "COMPLETED")
    assert answer.allowed == (Way("fail", "FAILED"), Way("start", "PROCESSING"))
    assert await waiting.within(LONG_MS) == answer.outcome
    (line,) = await bridge.explain(action_id)
    assert (line["outcome"], line["reason"]) == ("ReducerGaveUp", "rejected")
    assert "allowed: fail to FAILED, start to PROCESSING" in line["detail"]
    state = await bridge.fsm.get_state("17")
    assert state is not None
    assert (state.state, state.version) == ("PENDING", 1)


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED"])
async def test_a_terminal_state_stays_terminal(bridge: Bridge, end: str) -> None:
    await bridge.fsm.initialize_workflow("17")
    await bridge.fsm.transition_state("17", "PENDING", "PROCESSING")
    await bridge.fsm.transition_state("17", "PROCESSING", end)
    for to_state in WORKFLOW.table.states:
        answer = await bridge.fsm.transition_state("17", end, to_state)
        assert isinstance(answer, IllegalTransition)
        assert answer.allowed == ()
    assert len(await bridge.fsm.get_transition_history("17")) == 2
    await verified(bridge)


async def test_of_two_transitions_from_one_state_one_wins_and_the_other_is_a_value(
    bridge: Bridge, database_url: str
) -> None:
    await bridge.fsm.initialize_workflow("17")
    async with Bridge.open(app, database_url=database_url) as other:
        answers = await asyncio.gather(
            bridge.fsm.transition_state("17", "PENDING", "PROCESSING"),
            other.fsm.transition_state("17", "PENDING", "FAILED"),
        )
    won, lost = sorted(answers, key=lambda answer: isinstance(answer, StateDiffers))
    assert isinstance(won, StateCommitted)
    assert isinstance(lost, StateDiffers)
    state = await bridge.fsm.get_state("17")
    assert state is not None
    assert (lost.expected_state, lost.actual_state) == ("PENDING", state.state)
    assert lost.allowed == WORKFLOW.table.ways(state.state)
    assert len(await bridge.fsm.get_transition_history("17")) == 1
    await verified(bridge)


async def test_after_a_restart_everything_that_can_still_move_is_found_and_goes_on(
    database_url: str,
) -> None:
    async with Bridge.open(app, database_url=database_url) as bridge:
        for name, path in {
            "new": (),
            "moving": (("PENDING", "PROCESSING"),),
            "done": (("PENDING", "PROCESSING"), ("PROCESSING", "COMPLETED")),
            "failed": (("PENDING", "FAILED"),),
        }.items():
            await bridge.fsm.initialize_workflow(name)
            for step in path:
                await bridge.fsm.transition_state(name, *step)
    async with Bridge.open(app, database_url=database_url) as bridge:
        found = {each.workflow_id: each.state async for each in bridge.fsm.recover_states()}
        assert found == {"new": "PENDING", "moving": "PROCESSING"}
        answer = await bridge.fsm.transition_state("moving", "PROCESSING", "COMPLETED")
        assert isinstance(answer, StateCommitted)
        found = {each.workflow_id: each.state async for each in bridge.fsm.recover_states()}
        assert found == {"new": "PENDING"}
        again = await bridge.fsm.initialize_workflow("done")
        assert isinstance(again, AlreadyInitialized)
        assert again.state == "COMPLETED"
        await verified(bridge)


async def test_a_workflow_that_nobody_began_is_unknown(bridge: Bridge) -> None:
    answer = await bridge.fsm.transition_state("17", "PENDING", "PROCESSING")
    assert isinstance(answer, UnknownWorkflow)
    assert await bridge.fsm.get_state("17") is None


# -- the bus ---------------------------------------------------------------------------------------


async def test_an_outcome_is_heard_of_wherever_it_was_decided(
    bridge: Bridge, database_url: str
) -> None:
    counted, refused = uuid4(), uuid4()
    async with Bridge.open(app, database_url=database_url) as other:
        waiting = [other.event_bus.expect(EVERY, each) for each in (counted, refused)]
        committed = await bridge.submit("counter:1", "Counted", {"amount": 1}, action_id=counted)
        given_up = await bridge.submit("counter:2", "Refused", {}, action_id=refused)
        assert [await each.within(LONG_MS) for each in waiting] == [committed, given_up]


async def test_what_was_decided_before_somebody_waits_is_found_in_the_log(bridge: Bridge) -> None:
    outcome = (await bridge.submit("counter:1", "Counted", {"amount": 1})).committed()
    heard = await bridge.event_bus.wait_any([StateCommitted], outcome.action_id, LONG_MS)
    assert heard == outcome


class CountedDatabase(Database):
    """A database that writes down how many ids each look was for."""

    def __init__(self, database_url: str) -> None:
        """Nobody has looked yet."""
        super().__init__({"dsn": database_url}, connections_max=2)
        self.asked: list[int] = []

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:  # noqa: ANN401 - whatever a test says
        """Look."""
        self.asked.append(len(arguments[0]))
        return await super().fetch(statement, *arguments)


async def test_those_who_wait_share_one_question(database_url: str) -> None:
    async with CountedDatabase(database_url) as database:
        bus = PostgresEventBus(database)
        ids = [uuid4() for _ in range(50)]
        waiting = [bus.expect(EVERY, each) for each in ids]
        await until(lambda: len(database.asked) > 1, "two looks")
        assert database.asked[:2] == [50, 50]
        answers = await asyncio.gather(*(each.within(1) for each in waiting))
        assert answers == [StillUnknown(each, 1) for each in ids]
        await bus.close()


# -- start -----------------------------------------------------------------------------------------


async def test_the_doors_are_open_while_the_bridge_writes(database_url: str) -> None:
    async with Bridge.open(app, database_url=database_url) as bridge:
        nodes = bridge.nodes
        assert nodes is bridge.nodes
    with pytest.raises(BridgeClosed):
        _ = bridge.nodes
    async with Bridge.open(app, database_url=database_url, writing=False) as reading:
        assert await reading.fsm.get_state("17") is None
        with pytest.raises(BridgeClosed):
            _ = reading.nodes


async def test_a_contract_that_its_code_does_not_keep_opens_no_bridge(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The contract is right, so the code has to say something else for once.
    node = "omninode_bridge.nodes.database_adapter_effect.v1_0_0.node.NodeBridgeStoreEffect"
    monkeypatch.setattr(f"{node}.published", ())
    with pytest.raises(ConfigurationError, match=r"contract\.yaml: published_topics: says"):
        async with Bridge.open(app, database_url=database_url):
            pass


def test_the_key_type_of_state_machines_is_the_bridges_own() -> None:
    mine = App("mine")
    with pytest.raises(ConfigurationError, match="the bridge's own"):
        mine.reducer("fsm")(lambda state, _: Transition(state))


async def test_the_orchestrators_door_hands_over_to_whoever_carries_runs_out(
    bridge: Bridge,
) -> None:
    async def run(
        contract: Mapping[str, Any],
        input: Mapping[str, Any],  # noqa: A002 - the plan's word
        /,
        *,
        workflow_id: str,
        timeout: float,  # noqa: ASYNC109 - the port's
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> object:
        assert (workflow_id, timeout, epoch, lease_id) == ("1", 30, None, None)
        return await bridge.submit(contract["key"], "Counted", input)

    node = bridge.orchestrator_node(run)
    asked = ModelContractOrchestrator(
        workflow_id="1", contract={"key": "counter:1"}, input={"amount": 1}
    )
    output = await node.orchestrate_workflow(asked)
    assert isinstance(output.outcome, StateCommitted)
