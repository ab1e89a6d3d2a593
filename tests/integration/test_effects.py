"""Effects and timers on a real database: through failures, kills and restarts (R10)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest

from omninode_bridge import (
    Action,
    App,
    Bridge,
    ConfigurationError,
    EffectAttempted,
    EffectCall,
    EffectRefused,
    Intent,
    OutcomeNotAwaited,
    OutcomeUnknown,
    ReducerGaveUp,
    Transition,
)
from omninode_bridge.core.effect_window import WINDOW_MAX
from omninode_bridge.core.message import intent_id
from omninode_bridge.infrastructure.postgres.database import Database
from tests.bridges import database_url, fetch, migrated_template, until
from tests.integration.paying import app
from tests.servers import until_stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import asyncpg

    from omninode_bridge.core.commit import ActionName
    from omninode_bridge.host import Answers
    from omninode_bridge.infrastructure.entities import ModelDeadLetter

__all__ = ["database_url", "migrated_template"]

ORDERS: Final = 60


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Bridge]:  # noqa: ANN401 - handed on as they are
    """Open a bridge on the test's database."""
    async with Bridge.open(app, database_url=url, **options) as bridge:
        yield bridge


async def state(bridge: Bridge, key: str) -> dict[str, Any]:
    """Return the state of `key`."""
    row = await bridge.state(key)
    assert row is not None, key
    return row.state


async def answered(bridge: Bridge, key: str, answers: int = 1) -> dict[str, Any]:
    """Wait until `key` was told of so many ends; return its state."""
    deadline = monotonic() + 20
    while len((found := await state(bridge, key))["answers"]) < answers:
        assert monotonic() < deadline, found
        await asyncio.sleep(0.01)
    await bridge.settled()
    return await state(bridge, key)


def placed(folder: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - of the payload
    """Return the payload of an order."""
    return {"gateway": str(folder / "gateway"), **more}


async def test_an_effect_that_fails_is_tried_again_and_its_end_is_told_once(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as bridge:
        outcome = await bridge.submit("order:1", "Placed", placed(tmp_path, fails=2))
        found = await answered(bridge, "order:1")
        charge = str(intent_id(outcome.action_id, 0))
        assert found["answers"] == [["done", {"charge": charge}]]
        assert found["Booked"] == 1
        lines = (tmp_path / "gateway").read_text().splitlines()
        assert lines == [f"{charge} 1", f"{charge} 2", f"{charge} 3"]
        (told,) = await bridge.explain(outcome.action_id)
        (end,) = told["intents"][0]["effects"]
        assert (end["status"], end["attempts"]) == ("done", 3)
        assert (await bridge.verify()).mismatches == []


async def test_settled_waits_for_an_effect_that_fails_twice_and_for_what_follows_from_it(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as bridge:
        for number in range(5):
            await bridge.submit(f"order:{number}", "Placed", placed(tmp_path, fails=2))
        await bridge.settled()
        for number in range(5):
            found = await state(bridge, f"order:{number}")
            assert [status for status, _ in found["answers"]] == ["done"]
            assert found["Booked"] == 1
            shown = await bridge.read(f"order:{number}")
            assert shown is not None
            assert shown.version == 3, "the projection shows it all"


async def test_settled_waits_for_a_redriven_effect_and_a_dead_one_is_over(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as bridge:
        await bridge.submit("order:1", "Placed", placed(tmp_path, fails=9))
        for times in (1, 2):
            await bridge.settled()
            answers = (await state(bridge, "order:1"))["answers"]
            assert answers == [["dead", None]] * times
            (letter,) = await bridge.dead_letters()
            assert await bridge.redrive(letter)


async def test_settled_waits_for_effects_that_found_no_room(database_url: str) -> None:
    crowded, seen, may_go = App("crowded"), Counter[str](), asyncio.Event()

    @crowded.reducer("order")
    def _(state: dict[str, Any], action: Action) -> Transition:
        return Transition(state, tuple(Intent(name) for name in action.payload["effects"]))

    @crowded.effect("Slow")
    async def _(_: EffectCall) -> None:
        await may_go.wait()
        seen["Slow"] += 1

    @crowded.effect("Quick")
    async def _(_: EffectCall) -> None:
        may_go.set()

    async with Bridge.open(crowded, database_url=database_url) as bridge:
        await bridge.submit("order:1", "Placed", {"effects": ["Slow"] * WINDOW_MAX})
        await bridge.submit("order:1", "Placed", {"effects": ["Slow"] * 50 + ["Quick"]})
        await bridge.settled()
        assert seen["Slow"] == WINDOW_MAX + 50


async def test_settled_does_not_wait_for_a_time_to_come_nor_for_others_handlers(
    database_url: str,
) -> None:
    patient = App("patient")

    @patient.reducer("order")
    def _(state: dict[str, Any], action: Action) -> Transition:  # noqa: ARG001 - the signature it has to have
        later = action.occurred_at + timedelta(hours=1)
        return Transition({}, (Intent("Charge", due_at=later), Intent("Nobody")))

    patient.effect("Charge")(app.effect_types()["Charge"].handle)
    async with Bridge.open(patient, database_url=database_url) as bridge:
        await bridge.submit("order:1", "Placed", {})
        await bridge.settled()
        rows = await fetch(database_url, "SELECT intent_type, attempts FROM effects ORDER BY 1")
        assert [tuple(row) for row in rows] == [("Charge", 0), ("Nobody", 0)]


async def test_after_the_last_attempt_the_effect_is_a_dead_letter_and_the_reply_says_so(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as bridge:
        outcome = await bridge.submit("order:1", "Placed", placed(tmp_path, fails=9))
        found = await answered(bridge, "order:1")
        assert found["answers"] == [["dead", None]]
        (letter,) = await bridge.dead_letters()
        assert (letter.kind, letter.reason, letter.attempts) == ("effect", "dead", 4)
        assert letter.id == intent_id(outcome.action_id, 0)
        assert "the gateway is down, for the 4. time" in letter.detail


async def test_a_transactional_effect_writes_once_with_its_end(
    database_url: str, tmp_path: Path
) -> None:
    await fetch(database_url, "CREATE TABLE bookings (id UUID PRIMARY KEY, attempt INT NOT NULL)")
    async with opened(database_url) as bridge:
        payload = placed(tmp_path, effect="Book", fails=1)
        outcome = await bridge.submit("order:1", "Placed", payload)
        found = await answered(bridge, "order:1")
        assert found["answers"] == [["done", {"booked": True}]]
        rows = await fetch(database_url, "SELECT id, attempt FROM bookings")
        assert [(row["id"], row["attempt"]) for row in rows] == [
            (intent_id(outcome.action_id, 0), 2)
        ]


async def test_slow_transactional_effects_hold_up_no_commit(
    database_url: str, tmp_path: Path
) -> None:
    slow = App("slow")
    slow.reducer("order")(app.key_types()["order"].reduce)
    under_way = 0

    @slow.effect("Book", transactional=True, concurrency=40, timeout=60)
    async def _(_: EffectCall, connection: asyncpg.Connection) -> None:
        nonlocal under_way
        await connection.execute("SET application_name = 'lent'")
        under_way += 1
        await asyncio.sleep(3)

    async with Bridge.open(slow, database_url=database_url) as bridge:
        payload = placed(tmp_path, effect="Book")
        await bridge.submit_many([(f"order:{n}", "Placed", payload) for n in range(40)])
        await until(lambda: under_way >= 12, "as many as there are connections to lend")
        began = monotonic()
        for number in range(20):
            outcome = await bridge.submit(f"order:other-{number}", "Reminded", {}, timeout=10)
            assert outcome.committed().version == 1
        assert monotonic() - began < 3, "commits do not wait for handlers"
        for number in range(40):
            await answered(bridge, f"order:{number}")
        assert [row for row in await fetch(database_url, LENT) if row["count"]] == []


LENT: Final = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE application_name = 'lent' AND datname = current_database()"
)


async def test_intents_wait_for_the_bridge_that_has_their_handler(
    database_url: str, tmp_path: Path
) -> None:
    without = App("without handlers")
    without.reducer("order")(app.key_types()["order"].reduce)
    async with Bridge.open(without, database_url=database_url) as bridge:
        await bridge.submit("order:1", "Placed", placed(tmp_path))
        await bridge.settled()
        assert (await state(bridge, "order:1"))["answers"] == []
    async with opened(database_url) as bridge:
        assert (await answered(bridge, "order:1"))["answers"][0][0] == "done"


async def test_an_action_is_applied_when_it_is_due_and_not_before(database_url: str) -> None:
    async with opened(database_url) as bridge:
        due_at = datetime.now(UTC) + timedelta(seconds=0.6)
        began = monotonic()
        outcome = await bridge.submit(
            "order:1", "Placed", {"gateway": "/dev/null"}, due_at=due_at, timeout=10
        )
        assert monotonic() - began >= 0.55
        assert outcome.committed().version == 1
        with pytest.raises(OutcomeUnknown):
            await bridge.submit("order:2", "Placed", {}, due_at=due_at, timeout=-10)


async def test_who_finds_no_room_to_wait_for_a_timer_is_told_that_it_is_set(
    database_url: str,
) -> None:
    async with opened(database_url) as bridge:
        assert bridge._host is not None
        bridge._host._answers.due_max = 0
        later = datetime.now(UTC) + timedelta(hours=1)
        with pytest.raises(OutcomeNotAwaited, match="is durable"):
            await bridge.submit("order:1", "Placed", {}, due_at=later)
        assert len(await fetch(database_url, "SELECT FROM timers")) == 1


async def test_a_timer_set_by_a_reducer_fires_once_over_a_restart(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as bridge:
        await bridge.submit("order:1", "Placed", placed(tmp_path, remind_after_s=2))
        await bridge.settled()
        assert "Reminded" not in await state(bridge, "order:1")
    for _ in range(2):
        async with opened(database_url) as bridge:
            deadline = monotonic() + 20
            while (found := await state(bridge, "order:1")).get("Reminded") != 1:
                assert monotonic() < deadline, found
                await asyncio.sleep(0.02)
            await bridge.settled()
    async with opened(database_url) as bridge:
        assert (await state(bridge, "order:1"))["Reminded"] == 1


async def test_an_action_that_is_due_later_promises_no_order_and_holds_nobody_up(
    database_url: str,
) -> None:
    async with opened(database_url) as bridge:
        later = datetime.now(UTC) + timedelta(hours=1)
        waiting = asyncio.create_task(
            bridge.submit("order:1", "Placed", {"gateway": "/dev/null"}, due_at=later)
        )
        while not await fetch(database_url, "SELECT FROM timers"):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        began = monotonic()
        outcome = await bridge.submit("order:1", "Reminded", {}, timeout=10)
        assert outcome.committed().version == 1
        assert monotonic() - began < 5
        waiting.cancel()


async def test_a_hundred_thousand_timers_cost_an_idle_system_nothing(database_url: str) -> None:
    async with opened(database_url) as bridge:
        await fetch(
            database_url,
            "INSERT INTO timers (partition, due_at, workflow_key, action_id, body)"
            " SELECT n % 4, now() + INTERVAL '1 day' + n * INTERVAL '1 ms', 'order:' || n,"
            " gen_random_uuid(), '{}' FROM generate_series(1, 100000) n",
        )
        began = monotonic()
        outcome = await bridge.submit("order:1", "Reminded", {}, timeout=10)
        assert outcome.committed().version == 1
        assert monotonic() - began < 5
        plan = await fetch(
            database_url, "EXPLAIN SELECT min(due_at) FROM timers WHERE partition = 1"
        )
        assert any("timers_pkey" in row[0] for row in plan), [row[0] for row in plan]
        assert not any("Seq Scan" in row[0] for row in plan)


async def test_far_timers_and_who_waits_for_them_make_an_idle_system_ask_nothing_more(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: Counter[str] = Counter()
    lend = Database.connection

    def counted(database: Database) -> AbstractAsyncContextManager[asyncpg.Connection]:
        lent["connections"] += 1
        return lend(database)

    async def asked_while_idle() -> int:
        """Return how often anything here has asked the database in two seconds."""
        before = lent["connections"]
        await asyncio.sleep(2)
        return lent["connections"] - before

    monkeypatch.setattr(Database, "connection", counted)
    async with opened(database_url) as bridge:
        await bridge.settled()
        assert bridge._host is not None
        looks = CountedLooks(bridge._host._answers)
        without = await asked_while_idle()
        far = datetime.now(UTC) + timedelta(days=1)
        asking = [
            asyncio.create_task(bridge.submit(f"order:{n}", "Placed", {}, due_at=far))
            for n in range(5_000)
        ]
        await until(lambda: len(looks.answers.names()) == 5_000, "all who wait")
        while (await fetch(database_url, "SELECT count(*) FROM timers"))[0]["count"] < 5_000:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        await bridge.settled()
        looks.found.clear()
        beside = await asked_while_idle()
        # The loops look at what is theirs now and then, whatever there is; that is all.
        assert 0 < beside <= without + 2 * bridge.partitions
        assert looks.found, "the watcher had its turns"
        assert set(looks.found) == {0}, "none of them was looked up"
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


class CountedLooks:
    """Says how many of those who wait were looked up, each time that somebody asked."""

    def __init__(self, answers: Answers) -> None:
        """Look on."""
        self.answers = answers
        self.found: list[int] = []
        decidable = answers.decidable

        def counted(now: datetime) -> list[ActionName]:
            names = decidable(now)
            self.found.append(len(names))
            return names

        answers.decidable = counted  # type: ignore[method-assign] # this is how it looks on


def test_an_effect_that_makes_no_sense_is_refused_when_it_is_declared() -> None:
    declared = App("wrong")
    for terms in ({"attempts": 0}, {"timeout": 0}, {"concurrency": 0}, {"base_ms": 9, "cap_ms": 1}):
        with pytest.raises(ConfigurationError, match="the effect 'Mail'"):
            declared.effect("Mail", **terms)(None)  # type: ignore[arg-type, type-var]
    with pytest.raises(ConfigurationError, match="carried out by the bridge itself"):
        declared.effect("SubmitAction")(None)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="declared twice"):
        app.effect("Charge")(None)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="must be declared with async def"):
        # Not async, which mypy would tell as well: who does not use it is told at run time.
        declared.effect("Mail")(lambda _: None)  # type: ignore[type-var]
    declared.effect("Charge")(app.effect_types()["Charge"].handle)
    with pytest.raises(ConfigurationError, match="declared twice"):
        declared.include(app)


async def place_many(data_dir: Path, folder: Path, first: int) -> None:
    """Place orders in another process, and kill it while their effects are under way."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.paying_user"),
        *(str(data_dir), str(folder / "gateway"), str(first), str(ORDERS)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"placed\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()


@pytest.mark.timeout(180)
async def test_effects_of_a_killed_process_are_carried_out_by_the_next(
    server_folder: Path, tmp_path: Path
) -> None:
    data_dir = server_folder / "data"
    for turn in range(3):
        await place_many(data_dir, tmp_path, turn * ORDERS)
    seen: list[str] = []

    def observe(fact: object) -> None:
        if isinstance(fact, EffectAttempted):
            seen.append(fact.ended)

    async with Bridge.open(app, data_dir=data_dir, observe=observe) as bridge:
        for number in range(3 * ORDERS):
            found = await answered(bridge, f"order:{number}")
            assert [status for status, _ in found["answers"]] == ["done"], number
            assert found["Booked"] == 1, "what follows from an effect happens once"
        assert (await bridge.verify()).mismatches == []
    calls = Counter(line.split()[0] for line in (tmp_path / "gateway").read_text().splitlines())
    assert len(calls) == 3 * ORDERS, "at least once, under one id"
    await until_stopped(data_dir)


async def test_a_dead_action_is_redriven_under_its_id_and_once(database_url: str) -> None:
    broken, mended = App("shop"), App("shop")

    @broken.reducer("order")
    def _(state: dict[str, Any], action: object) -> Any:  # noqa: ANN401, ARG001 - the signature it has to have
        raise RuntimeError("a bug")

    mended.reducer("order")(app.key_types()["order"].reduce)
    action_id = uuid4()
    async with Bridge.open(broken, database_url=database_url) as bridge:
        outcome = await bridge.submit("order:1", "Reminded", {}, action_id=action_id)
        assert isinstance(outcome, ReducerGaveUp)
        (letter,) = await bridge.dead_letters()
        assert (letter.id, letter.reason, letter.kind) == (action_id, "reducer_error", "action")
        assert await bridge.redrive(letter), "it will fail again"
        await bridge.settled()
        assert len(await bridge.dead_letters()) == 1, "it is one letter, however often it failed"
    async with Bridge.open(mended, database_url=database_url) as bridge:
        (letter,) = await bridge.dead_letter(action_id)
        assert await bridge.redrive(letter)
        assert await bridge.redrive(letter)
        await bridge.settled()
        assert (await state(bridge, "order:1"))["Reminded"] == 1
        again = await bridge.submit("order:1", "Reminded", {}, action_id=action_id)
        assert again.committed().version == 1
        assert await bridge.dead_letters() == []
        gave_up, gave_up_again, committed = sorted(
            await bridge.explain(action_id), key=lambda line: line["outcome"]
        )
        assert gave_up["outcome"] == gave_up_again["outcome"] == "ReducerGaveUp"
        assert committed["action"]["purpose"] == "redrive"
        assert (await bridge.verify()).mismatches == []


async def test_who_asked_for_an_action_hears_of_the_give_up_and_of_the_redrive(
    database_url: str,
) -> None:
    broken, mended = App("shop"), App("shop")

    @broken.reducer("order")
    def _(state: dict[str, Any], action: object) -> Any:  # noqa: ANN401, ARG001 - the signature it has to have
        raise RuntimeError("a bug")

    def listen(state: dict[str, Any], action: Action) -> Transition:
        return Transition({"told": [*state.get("told", ()), action.payload["event"]]})

    mended.reducer("order")(app.key_types()["order"].reduce)
    for each in (broken, mended):
        each.reducer("asker")(listen)
    action_id = uuid4()
    async with Bridge.open(broken, database_url=database_url) as bridge:
        await bridge.submit("order:1", "Reminded", {}, action_id=action_id, reply_to="asker:1")
        await bridge.settled()
        assert (await state(bridge, "asker:1"))["told"] == ["ReducerGaveUp"]
    async with Bridge.open(mended, database_url=database_url) as bridge:
        (letter,) = await bridge.dead_letter(action_id)
        assert await bridge.redrive(letter)
        assert await bridge.redrive(letter)
        await bridge.settled()
        assert (await state(bridge, "asker:1"))["told"] == ["ReducerGaveUp", "StateCommitted"]
        assert (await bridge.verify()).mismatches == []


async def test_letters_are_listed_by_reason_and_in_pages(database_url: str) -> None:
    async with opened(database_url) as bridge:
        for number in range(5):
            await bridge.submit(f"order:{number}", "Unknown", {})
            await bridge.submit(f"order:{number}", "Placed", {})  # a KeyError
        await bridge.submit("order:9", "Placed", {"gateway": "/dev/null", "effect": "Refuse"})
        await answered(bridge, "order:9")
        assert [letter.reason for letter in await bridge.dead_letters()] == [
            *["reducer_error"] * 5,
            "dead",
        ]
        assert len(await bridge.dead_letters(reason="rejected")) == 5
        found: list[ModelDeadLetter] = []
        after = None
        while page := await bridge.dead_letters(after=after, limit=2):
            found += page
            after = page[-1]
        assert found == list(await bridge.dead_letters())
        with pytest.raises(ConfigurationError, match="no reason 'weather'"):
            await bridge.dead_letters(reason="weather")


async def test_all_letters_are_redriven_page_by_page_and_each_once(database_url: str) -> None:
    async with opened(database_url) as bridge:
        broken: list[tuple[str, str, dict[str, Any]]] = [
            (f"order:{n}", "Placed", {}) for n in range(7)
        ]
        refused = {"gateway": "/dev/null", "effect": "Refuse"}
        dead = [(f"order:1{n}", "Placed", refused) for n in range(5)]
        await bridge.submit_many([*broken, *dead])
        await bridge.settled()
        letters = list(await bridge.dead_letters())
        assert len(letters) == 12
        sizes: list[int] = []
        met: list[ModelDeadLetter] = []
        async for page in bridge.dead_letter_pages(size=3):
            sizes.append(len(page))
            met += page
            for letter in page:
                assert await bridge.redrive(letter)
            await bridge.settled()  # by now each of them is a dead letter again, most further on
        assert met == letters, "none twice, although all were given up again"
        assert max(sizes) == 3
        assert sum(sizes) == 12
        assert len(await bridge.dead_letters()) == 12
        kinds = [
            each.kind async for page in bridge.dead_letter_pages(reason="dead") for each in page
        ]
        assert kinds == ["effect"] * 5
        one_by_one = bridge.dead_letter_pages(reason="dead", size=1)
        assert len(await anext(one_by_one)) == 1
        await bridge.submit("order:19", "Placed", refused)
        await bridge.settled()
        assert sum([len(page) async for page in one_by_one]) == 4, "the sixth died meanwhile"


async def test_who_asked_for_an_effect_hears_that_it_is_dead_and_then_that_it_is_done(
    database_url: str, tmp_path: Path
) -> None:
    shop, is_open = App("shop"), False
    shop.reducer("order")(app.key_types()["order"].reduce)

    @shop.effect("Charge")
    async def _(call: EffectCall) -> dict[str, Any]:
        if not is_open:
            raise EffectRefused("the bank is closed")
        return {"charge": str(call.intent_id)}

    async with Bridge.open(shop, database_url=database_url) as bridge:
        outcome = await bridge.submit("order:1", "Placed", placed(tmp_path))
        await answered(bridge, "order:1")
        (letter,) = await bridge.dead_letters()
        is_open = True
        assert await bridge.redrive(letter)
        found = await answered(bridge, "order:1", 2)
        charge = {"charge": str(intent_id(outcome.action_id, 0))}
        assert found["answers"] == [["dead", None], ["done", charge]]


async def test_a_dead_effect_is_redriven_and_tried_as_often_again(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as bridge:
        await bridge.submit("order:1", "Placed", placed(tmp_path, fails=4))
        await answered(bridge, "order:1")
        (letter,) = await bridge.dead_letters(reason="dead")
        attempts: list[int] = []
        bridge.observe(
            lambda fact: (
                attempts.append(fact.attempt) if isinstance(fact, EffectAttempted) else None
            )
        )
        assert await bridge.redrive(letter)
        assert not await bridge.redrive(letter), "it is not dead any more"
        await until(lambda: attempts[-1:] == [4], "the last attempt")
        await until(lambda: len(attempts) == 4, "four attempts again")
