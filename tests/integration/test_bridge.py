"""The public API on a real database, as its users meet it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from omninode_bridge import (
    Action,
    App,
    Bridge,
    BridgeClosed,
    ConfigurationError,
    GaveUp,
    Intent,
    InvalidAction,
    Observation,
    OutcomeUnknown,
    ProjectionApplied,
    Transition,
    VersionNotReached,
)
from omninode_bridge.core.message import DEPTH_MAX
from omninode_bridge.infrastructure.postgres import migrations
from tests.bridges import app, fetch, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def bridge(database_url: str) -> AsyncIterator[Bridge]:
    async with Bridge.open(app, database_url=database_url) as opened:
        yield opened


async def test_a_committed_action_is_in_state_history_and_projection(bridge: Bridge) -> None:
    outcome = (await bridge.submit("counter:1", "Counted", {"amount": 40})).committed()
    assert (outcome.workflow_key, outcome.version, outcome.commit_offset) == ("counter:1", 1, 1)
    state = await bridge.state("counter:1")
    assert state is not None
    assert (state.version, state.state) == (1, {"count": 1, "total": 40})
    assert state.provenance.action_id == outcome.action_id
    assert state.provenance.chain == outcome.provenance.chain
    row = await bridge.read("counter:1", required_version=1)
    assert row is not None
    assert (row.version, row.tag, row.namespace) == (1, "odd", "counters")
    assert (row.indices, row.extras, row.last_action) == ({"total": 40}, None, "Counted")
    (line,) = await bridge.history("counter:1")
    assert line["version"] == 1
    assert line["action"]["payload"] == {"amount": 40}
    assert line["chain"] == outcome.provenance.chain


async def test_a_key_never_seen_has_no_state_no_history_no_projection(bridge: Bridge) -> None:
    assert await bridge.state("counter:1") is None
    assert await bridge.read("counter:1") is None
    assert await bridge.history("counter:1") == []
    assert await bridge.explain(uuid4()) == []


async def test_a_read_waits_for_the_version_it_requires(bridge: Bridge) -> None:
    for version in range(1, 30):
        await bridge.submit("counter:1", "Counted", {"amount": 1})
        row = await bridge.read("counter:1", required_version=version)
        assert row is not None
        assert row.version >= version


async def test_the_canonical_store_answers_with_equal_content_when_the_projection_is_late(
    database_url: str,
) -> None:
    async with Bridge.open(app, database_url=database_url) as bridge:
        await bridge.submit("counter:1", "Counted", {"amount": 7})
        projected = await bridge.read("counter:1", required_version=1, max_wait_ms=5_000)
        await bridge.settled()
        await fetch(database_url, "DELETE FROM workflow_projection")
        fallen_back = await bridge.read("counter:1", required_version=1, max_wait_ms=20)
        assert fallen_back == projected
        at_once = await bridge.read("counter:1", required_version=1, max_wait_ms=0)
        assert at_once == projected


async def test_a_version_that_nobody_committed_is_an_error_not_a_wait_for_ever(
    bridge: Bridge,
) -> None:
    await bridge.submit("counter:1", "Counted", {})
    with pytest.raises(VersionNotReached) as missing:
        await bridge.read("counter:1", required_version=2, max_wait_ms=30)
    assert (missing.value.required_version, missing.value.actual_version) == (2, 1)


async def test_waiters_of_another_process_share_one_question(database_url: str) -> None:
    """A reading bridge has no materializer: it finds out by asking, once for all who wait."""
    async with (
        Bridge.open(app, database_url=database_url) as writer,
        Bridge.open(app, database_url=database_url, writing=False) as reader,
    ):
        waiting = [
            asyncio.create_task(reader.read(f"counter:{n}", required_version=1, max_wait_ms=10_000))
            for n in range(50)
        ]
        await writer.submit_many([(f"counter:{n}", "Counted", {}) for n in range(50)])
        rows = await asyncio.gather(*waiting)
        assert [row.version for row in rows if row is not None] == [1] * 50


async def test_actions_of_one_call_keep_their_order(bridge: Bridge) -> None:
    actions = [("counter:1", "Counted", {"n": n}) for n in range(1_500)]
    outcomes = await bridge.submit_many(actions)
    assert [outcome.committed().version for outcome in outcomes] == list(range(1, 1_501))
    history = await bridge.history("counter:1", limit=2_000)
    assert [line["action"]["payload"]["n"] for line in history] == list(range(1_500))


async def test_submit_many_takes_whole_actions(bridge: Bridge) -> None:
    happened = datetime(2011, 10, 1, 0, 38, 44, 546000, tzinfo=UTC)
    action = Action(
        uuid4(), "counter:1", "Counted", {"amount": 1}, happened, correlation_id=uuid4()
    )
    (outcome,) = await bridge.submit_many([action])
    assert outcome.action_id == action.action_id
    assert outcome.committed().provenance.correlation_id == action.correlation_id
    (line,) = await bridge.history("counter:1")
    assert datetime.fromisoformat(line["action"]["occurred_at"]) == happened


async def test_one_bad_action_of_many_is_refused_before_any_is_handed_over(bridge: Bridge) -> None:
    with pytest.raises(InvalidAction):
        await bridge.submit_many([("counter:1", "Counted", {}), ("counter:1", "Counted", [])])  # type: ignore[list-item]
    assert await bridge.state("counter:1") is None


async def test_an_enqueued_action_is_durable_before_it_is_reduced(database_url: str) -> None:
    action_id = uuid4()
    async with Bridge.open(app, database_url=database_url) as bridge:
        ids = await asyncio.gather(
            *(bridge.enqueue(f"counter:{n % 5}", "Counted", {"amount": 1}) for n in range(300)),
            bridge.enqueue("counter:9", "Counted", {"amount": 1}, action_id=action_id),
            bridge.enqueue("counter:9", "Counted", {"amount": 1}, action_id=action_id),
        )
        assert len(set(ids)) == 301
        logged = await fetch(database_url, "SELECT count(*) AS n FROM event_log_action")
        assert logged[0]["n"] == 302
        await bridge.settled()
        assert (await bridge.verify()).actions == 301
        (explained,) = await bridge.explain(action_id)
        assert explained["outcome"] == "StateCommitted"


async def test_follow_up_actions_are_applied_once_and_explained(bridge: Bridge) -> None:
    payload = {"amount": 5, "passes_on_to": ["counter:2", "counter:3", "counter:2"]}
    outcome = await bridge.submit("counter:1", "Counted", payload)
    await bridge.settled()
    second, third = await bridge.state("counter:2"), await bridge.state("counter:3")
    assert second is not None
    assert third is not None
    assert second.state == {"count": 2, "total": 10}
    assert third.state == {"count": 1, "total": 5}
    (explained,) = await bridge.explain(outcome.action_id)
    intents = explained["intents"]
    assert [intent["target"] for intent in intents] == ["counter:2", "counter:3", "counter:2"]
    (follow_up,) = await bridge.explain(intents[1]["intent_id"])
    assert UUID(follow_up["action"]["causation_id"]) == outcome.action_id
    assert UUID(follow_up["action"]["correlation_id"]) == outcome.action_id
    assert follow_up["action"]["depth"] == 1


async def test_a_chain_of_follow_up_actions_ends(database_url: str) -> None:
    endless = App("endless")

    @endless.reducer("echo")
    def _(state: dict[str, Any], action: Action) -> Transition:
        again = Intent.submit(action.workflow_key, "Called", {})
        return Transition({"calls": state.get("calls", 0) + 1}, (again,))

    async with Bridge.open(endless, database_url=database_url) as bridge:
        await bridge.submit("echo:1", "Called", {})
        await bridge.settled()
        state = await bridge.state("echo:1")
        assert state is not None
        assert state.state["calls"] == DEPTH_MAX
        gave_up = await fetch(
            database_url, "SELECT body->>'detail' AS detail FROM event_log_reducer_gave_up"
        )
        assert len(gave_up) == 1
        assert f"may be {DEPTH_MAX} long, this one would be longer" in gave_up[0]["detail"]


async def test_a_remembered_outcome_is_the_first_one_for_ever_if_asked(database_url: str) -> None:
    kept, brief = uuid4(), uuid4()
    async with Bridge.open(app, database_url=database_url) as bridge:
        await bridge.submit("counter:1", "Counted", {}, action_id=kept, remember_for=None)
        await bridge.submit(
            "counter:1", "Counted", {}, action_id=brief, remember_for=timedelta(milliseconds=1)
        )
        rows = await fetch(
            database_url,
            "SELECT action_id, expires_at = 'infinity' AS kept FROM action_dedup_log",
        )
        assert {UUID(str(row["action_id"])): row["kept"] for row in rows} == {
            kept: True,
            brief: False,
        }
        # Presence decides, not expiry: nobody has cleaned yet.
        again = await bridge.submit("counter:1", "Counted", {}, action_id=brief)
        assert again.duplicate


async def test_a_timeout_means_unknown_and_the_same_id_tells_the_outcome(
    database_url: str,
) -> None:
    async with Bridge.open(app, database_url=database_url) as bridge:
        await bridge.submit("counter:1", "Counted", {})
        action_id = uuid4()
        blocker = await _holding_partitions(database_url)
        try:
            with pytest.raises(OutcomeUnknown) as unknown:
                await bridge.submit("counter:1", "Counted", {}, action_id=action_id, timeout=0.1)
            assert unknown.value.action_id == action_id
        finally:
            await blocker.close()
        outcome = await bridge.submit("counter:1", "Counted", {}, action_id=action_id)
        assert outcome.committed().version == 2


async def _holding_partitions(database_url: str) -> Any:  # noqa: ANN401 - asyncpg ships no types
    connection = await asyncpg.connect(database_url)
    await connection.execute("BEGIN; SELECT partition FROM event_log_partitions FOR UPDATE")
    return connection


async def test_a_listing_is_paged_by_key(bridge: Bridge) -> None:
    await bridge.submit_many([(f"counter:{n:02}", "Counted", {}) for n in range(25)])
    await bridge.submit_many([(f"counter:{n:02}", "Counted", {}) for n in range(5)])
    await bridge.settled()
    keys: list[str] = []
    after = None
    while page := await bridge.list(namespace="counters", after=after, limit=10):
        keys += [row.workflow_key for row in page]
        after = page[-1].workflow_key
    assert keys == [f"counter:{n:02}" for n in range(25)]
    assert len(await bridge.list(tag="even")) == 5
    assert len(await bridge.list(tag="odd", namespace="counters")) == 20
    assert await bridge.list(namespace="nowhere") == []


async def test_a_rebuild_gives_the_same_rows_while_reads_and_commits_go_on(
    database_url: str,
) -> None:
    async with Bridge.open(app, database_url=database_url) as bridge:
        await bridge.submit_many([(f"counter:{n % 40}", "Counted", {}) for n in range(400)])
        await bridge.settled()
        before = await bridge.list(limit=1_000)
        stop = asyncio.Event()

        async def commit_and_read() -> int:
            done = 0
            while not stop.is_set():
                outcome = await bridge.submit("counter:busy", "Counted", {})
                row = await bridge.read(
                    "counter:busy", required_version=outcome.committed().version
                )
                assert row is not None
                done += 1
            return done

        busy = asyncio.create_task(commit_and_read())
        for _ in range(3):
            rows = await bridge.rebuild_projection()
        stop.set()
        assert await busy > 0
        assert rows == 41
        await bridge.settled()
        after = [row for row in await bridge.list(limit=1_000) if "busy" not in row.workflow_key]
        assert after == before
        assert (await bridge.verify()).mismatches == []
        indexes = await fetch(
            database_url,
            "SELECT indexname FROM pg_indexes WHERE tablename = 'workflow_projection' ORDER BY 1",
        )
        assert [row["indexname"] for row in indexes] == [
            "idx_projection_namespace",
            "idx_projection_tag",
            "workflow_projection_pkey",
        ]


async def test_a_reading_bridge_and_a_closed_one_take_no_actions(database_url: str) -> None:
    async with Bridge.open(app, database_url=database_url, writing=False) as reader:
        with pytest.raises(BridgeClosed, match="reading only"):
            await reader.submit("counter:1", "Counted", {})
    async with Bridge.open(app, database_url=database_url) as bridge:
        pass
    with pytest.raises(BridgeClosed, match="is closed"):
        await bridge.submit("counter:1", "Counted", {})


async def test_what_was_handed_over_before_closing_is_answered(database_url: str) -> None:
    async with Bridge.open(app, database_url=database_url) as bridge:
        asked = [asyncio.create_task(bridge.submit("counter:1", "Counted", {})) for _ in range(200)]
        await asyncio.sleep(0)
    versions = sorted(outcome.committed().version for outcome in await asyncio.gather(*asked))
    assert versions == list(range(1, 201))


async def test_a_rejection_raises_when_a_commit_is_demanded(bridge: Bridge) -> None:
    outcome = await bridge.submit("counter:1", "Refused", {})
    with pytest.raises(GaveUp, match=r"rejected.*as you wished") as gave_up:
        outcome.committed()
    assert gave_up.value.reason == "rejected"


async def test_the_number_of_partitions_is_fixed_with_the_database(database_url: str) -> None:
    async with Bridge.open(app, database_url=database_url, partitions=2) as bridge:
        assert bridge.partitions == 2
    async with Bridge.open(app, database_url=database_url) as bridge:
        assert bridge.partitions == 2
    with pytest.raises(ConfigurationError, match="has 2 partitions, not 8"):
        async with Bridge.open(app, database_url=database_url, partitions=8):
            pass


async def test_a_database_that_was_not_migrated_says_what_to_run(
    database: dict[str, Any],
) -> None:
    url = f"postgresql://{database['user']}@/{database['database']}?host={database['host']}"
    with pytest.raises(ConfigurationError, match="migrate up"):
        async with Bridge.open(app, database_url=f"{url}&port={database['port']}"):
            pass


async def test_the_facts_of_the_loops_are_observed(database_url: str) -> None:
    seen: list[Observation] = []
    async with Bridge.open(app, database_url=database_url, observe=seen.append) as bridge:
        await bridge.submit("counter:1", "Counted", {})
        await until(
            lambda: any(isinstance(fact, ProjectionApplied) for fact in seen), "a projection"
        )
    assert {type(fact).__name__ for fact in seen} == {
        "OwnershipChanged",
        "BatchCommitted",
        "ProjectionApplied",
    }


async def test_settling_waits_for_what_was_there_however_much_is_asked_meanwhile(
    bridge: Bridge,
) -> None:
    stop = asyncio.Event()
    answered = 0

    async def ask(number: int) -> None:
        nonlocal answered
        while not stop.is_set():
            payload = {"amount": 1, "passes_on_to": ["counter:sum"]}
            (await bridge.submit(f"counter:{number}", "Counted", payload)).committed()
            answered += 1

    async with asyncio.TaskGroup() as asking:
        for number in range(20):
            asking.create_task(ask(number))
        await until(lambda: answered > 200, "a load")
        before = answered
        try:
            await bridge.settled(timeout=30)
            row = await bridge.read("counter:sum")
        finally:
            stop.set()
    assert row is not None
    assert row.version >= before
    assert answered > before  # there was load until the end


async def test_the_fallback_shows_the_projection_that_was_declared_where_it_was_committed(
    database_url: str,
) -> None:  # R8
    async with Bridge.open(app, database_url=database_url) as bridge:
        (await bridge.submit("counter:1", "Counted", {"amount": 1})).committed()
        await bridge.settled()
        projected = await bridge.read("counter:1", required_version=1)
    # A commit that nobody has projected, read where the key's type is not declared.
    await fetch(database_url, "DELETE FROM workflow_projection")
    async with Bridge.open(App("elsewhere"), database_url=database_url, writing=False) as elsewhere:
        assert await elsewhere.read("counter:1", required_version=1, max_wait_ms=0) == projected


async def test_an_observer_that_raises_stops_nothing(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def observe(_: Observation) -> None:
        raise RuntimeError("I do not like what I see")

    async with Bridge.open(app, database_url=database_url, observe=observe) as bridge:
        for version in (1, 2, 3):
            outcome = await bridge.submit("counter:1", "Counted", {"amount": 1})
            assert outcome.committed().version == version
        await bridge.settled()
    assert "an observer failed on" in caplog.text


@pytest.mark.parametrize("partitions", [0, -1, 257])
async def test_a_number_of_partitions_that_cannot_be_is_refused(
    database: dict[str, Any], partitions: int
) -> None:
    await migrations.upgrade(database)
    url = "postgresql://{user}@/{database}?host={host}&port={port}".format(**database)
    with pytest.raises(ConfigurationError, match="1 to 256 partitions"):
        async with Bridge.open(app, database_url=url, partitions=partitions):
            pass


async def test_a_role_with_another_isolation_level_is_told_what_to_change(
    database_url: str,
) -> None:
    strict = f"{database_url}&options=-c%20default_transaction_isolation%3Dserializable"
    with pytest.raises(ConfigurationError, match="ALTER ROLE"):
        async with Bridge.open(app, database_url=strict):
            pass
