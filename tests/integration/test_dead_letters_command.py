"""The commands for dead letters, as a person runs them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge, RunFailed
from omninode_bridge.services.dead_letters import PAGE
from tests.integration.paying import app
from tests.integration.shop import contract, shop
from tests.programs import Program
from tests.servers import make_server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP: Final = ("--app", "tests.integration.paying:app")


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """Yield the program on a database with a broken action and a dead effect."""
    with make_server_folder() as folder:
        program = Program(folder / "data")

        async def break_things() -> None:
            async with Bridge.open(app, data_dir=program.data_dir) as bridge:
                await bridge.submit("order:1", "Placed", {})  # a KeyError
                await bridge.submit("order:2", "Unknown", {})
                payload = {"gateway": "/dev/null", "effect": "Refuse"}
                await bridge.submit("order:3", "Placed", payload)
                # No event tells that the letter is written.
                while not await bridge.dead_letters(reason="dead"):  # noqa: ASYNC110 - no event of ours tells it
                    await asyncio.sleep(0.01)

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(break_things())
        yield program


def test_a_person_sees_what_is_broken_and_why(program: Program) -> None:
    action, effect = program.json("dlq", "list").objects()
    assert (action["kind"], action["reason"], action["type"]) == (
        "action",
        "reducer_error",
        "Placed",
    )
    assert action["detail"].strip().endswith("KeyError: 'gateway'")
    assert (effect["kind"], effect["reason"], effect["detail"]) == (
        "effect",
        "dead",
        "this card is stolen",
    )
    (rejected,) = program.json("dlq", "list", "--reason", "rejected").objects()
    assert rejected["workflow_key"] == "order:2"
    shown = program.json("dlq", "show", action["id"]).object()
    assert shown["body"]["action"]["payload"] == {}
    table = program.run("dlq", "list")
    assert "KeyError: 'gateway'" in table.out.decode()
    assert "2 dead letters" in table.words


def test_more_letters_than_a_page_holds_are_redriven_each_once() -> None:
    many, effects = PAGE + 100, 20
    with make_server_folder() as folder:
        program = Program(folder / "data")

        async def break_things() -> None:
            async with Bridge.open(app, data_dir=program.data_dir, partitions=2) as bridge:
                await bridge.submit_many([(f"order:{n}", "Placed", {}) for n in range(many)])
                refused = {"gateway": "/dev/null", "effect": "Refuse"}
                keys = [f"order:dead-{n}" for n in range(effects)]
                await bridge.submit_many([(key, "Placed", refused) for key in keys])
                await bridge.settled()

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(break_things())
        said = program.json("dlq", "redrive", "--reason", "dead", *APP, status=1).object()
        assert said == {"redriven": effects, "dead_again": effects}
        said = program.json("dlq", "redrive", "--all", *APP, status=1).object()
        assert said == {"redriven": many + effects, "dead_again": many + effects}


def test_what_is_no_dead_letter_is_said_to_be_none(program: Program) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"
    assert "is no dead letter" in program.run("dlq", "show", unknown, status=1).words
    program.run("dlq", "redrive", unknown, status=1)
    program.run("dlq", "redrive", status=2)
    program.run("dlq", "redrive", "--all", "--reason", "rejected", status=2)
    assert "no reason" in program.run("dlq", "list", "--reason", "weather", status=2).words


def test_what_runs_asked_for_is_left_to_them_unless_it_is_named_and_forced() -> None:
    with make_server_folder() as folder:
        program = Program(folder / "data")

        async def break_things() -> None:
            async with Bridge.open(shop(), data_dir=program.data_dir) as bridge:
                await bridge.submit("stock:tea", "Broken", {})
                action = {"key": "stock:tea", "type": "Broken", "payload": {}}
                step = {"name": "break", "action": action, "undo": "none"}
                with pytest.raises(RunFailed):
                    (await bridge.run(contract(step), {}, workflow_id="1")).completed()

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(break_things())
        letters = program.json("dlq", "list").objects()
        assert [letter["reply_to"] for letter in letters] == [None, "run:1"]
        assert "run:1" in program.run("dlq", "list").out.decode()
        theirs = letters[1]["id"]
        for chosen in (["--all"], ["--reason", "reducer_error"]):
            done = program.json("dlq", "redrive", *chosen)
            assert done.object()["redriven"] == 1
            assert "1 left out: runs asked for them" in done.words
        refused = program.run("dlq", "redrive", letters[0]["id"], theirs, status=2)
        assert f"{theirs} was asked for by run:1" in refused.words
        assert refused.out == b"", "and nothing of the others was sent"
        program.run("dlq", "redrive", "--all", "--force", status=2)
        said = program.json("dlq", "redrive", theirs, "--force").object()
        assert said == {"redriven": 1, "dead_again": None}


def test_a_redrive_is_applied_by_whoever_has_the_reducer(program: Program) -> None:
    (action,) = [each for each in program.json("dlq", "list").objects() if each["kind"] == "action"]
    said = program.json("dlq", "redrive", action["id"]).object()
    assert said == {"redriven": 1, "dead_again": None}
    said = program.json("dlq", "redrive", "--reason", "reducer_error", *APP, status=1).object()
    assert said == {"redriven": 1, "dead_again": 1}, "the payload still lacks its gateway"


def test_a_redriven_effect_has_been_tried_when_the_command_says_what_came_of_it(
    program: Program, tmp_path: Path
) -> None:
    async def ask_in_vain() -> None:
        async with Bridge.open(app, data_dir=program.data_dir) as bridge:
            payload = {"gateway": str(tmp_path / "gateway"), "fails": 9}
            await bridge.submit("order:4", "Placed", payload)
            await bridge.settled()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(ask_in_vain())
    letters = program.json("dlq", "list", "--reason", "dead").objects()
    (effect,) = [letter for letter in letters if letter["workflow_key"] == "order:4"]
    assert effect["reply_to"] == "order:4"
    said = program.json("dlq", "redrive", effect["id"], *APP, status=1).object()
    assert said == {"redriven": 1, "dead_again": 1}, "the gateway is still down"
    tried = (tmp_path / "gateway").read_text().splitlines()
    assert len(tried) == 8, "four attempts, and four again"
