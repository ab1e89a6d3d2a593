"""`runs` and `run show`, as a user runs them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omninode_bridge import Bridge
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from tests.integration.shop import Cards, charge, contract, reserve, shop
from tests.programs import Program
from tests.servers import make_server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDER = {"sku": "tea", "quantity": 2, "amount": 40}


async def run_some(data_dir: Path) -> None:
    """Let two runs end, in one way and the other."""
    async with Bridge.open(shop(Cards()), data_dir=data_dir) as bridge:
        steps = contract(reserve(), charge())
        await bridge.run(steps, ORDER, workflow_id="good")
        await bridge.run(steps, ORDER | {"amount": 13}, workflow_id="bad")
        await bridge.submit("stock:x", "Reserved", {"order": "run:x", "quantity": 1})
        await bridge.settled()


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """Yield the program on a database with two runs. Tests only look at it."""
    with (
        make_server_folder() as folder,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        program = Program(folder / "data")
        # A user who stays, so that the server does not start and stop with each command.
        using = EmbeddedServer(program.data_dir).use()
        runner.run(using.__aenter__())
        runner.run(run_some(program.data_dir))
        yield program
        runner.run(using.__aexit__(None, None, None))


def test_runs_lists_runs_and_nothing_else(program: Program) -> None:
    bad, good = program.json("runs").objects()
    assert [bad["workflow_id"], good["workflow_id"]] == ["bad", "good"]
    assert set(good) == {
        *("workflow_id", "contract", "contract_version", "status"),
        *("detail", "started_at", "ended_at", "steps"),
    }
    assert (good["status"], good["steps"]) == ("COMPLETED", {"steps": 2, "done": 2})
    assert bad["detail"] == "step charge: dead: the card has no money"


def test_runs_are_chosen_by_status_and_by_page(program: Program) -> None:
    (found,) = program.json("runs", "--tag", "COMPENSATED").objects()
    assert found["workflow_id"] == "bad"
    assert program.json("runs", "--tag", "RUNNING").objects() == []
    (found,) = program.json("runs", "--limit", "1").objects()
    assert found["workflow_id"] == "bad"
    (found,) = program.json("runs", "--after", "bad").objects()
    assert found["workflow_id"] == "good"


def test_runs_are_drawn_as_a_table(program: Program) -> None:
    done = program.run("runs")
    _, bad, good = done.out.decode().splitlines()
    # The card was refused, so there is nothing of it to undo.
    assert bad.split()[:7] == ["bad", "order", "COMPENSATED", "1", "failed,", "1", "undone"]
    assert good.split()[:5] == ["good", "order", "COMPLETED", "2", "done"]
    assert "2 runs" in done.words


def test_a_run_is_shown_with_its_steps(program: Program) -> None:
    found = program.json("run", "show", "bad").object()
    assert set(found) == {
        *("workflow_id", "contract", "contract_version", "status", "detail", "epoch"),
        *("started_at", "ended_at", "steps"),
    }
    reserve_step, charge_step = found["steps"]
    assert set(charge_step) == {
        *("name", "depends_on", "status", "attempts", "version", "result", "reason", "detail"),
        *("order", "asked_at", "ended_at"),
        *("undo_attempts", "undo_reason", "undo_detail", "undone_at"),
    }
    assert (reserve_step["status"], reserve_step["version"]) == ("UNDONE", 2)
    assert charge_step["reason"] == "dead"


def test_a_run_is_drawn_step_by_step(program: Program) -> None:
    drawn = program.run("run", "show", "bad").out.decode()
    assert "run bad: COMPENSATED" in drawn
    *_, first, second = drawn.splitlines()
    assert first.split()[:4] == ["reserve", "-", "UNDONE", "1"]
    assert second.split()[:4] == ["charge", "reserve", "FAILED", "1"]
    assert "dead: the card has no money" in second


def test_a_run_that_was_never_started_is_told_so(program: Program) -> None:
    done = program.run("run", "show", "nobody", status=1)
    assert "no run nobody was ever started" in done.words
    assert program.run("run", "show", "x" * 600, status=2).out == b""
    assert b"Usage" in program.run("run", "show", "--help").out


def test_the_history_of_a_run_holds_what_happened_to_it_and_verifies(program: Program) -> None:
    types = [line["action"]["type"] for line in program.json("history", "run:good").objects()]
    assert types == ["RunStarted", "ActionAnswered", "EffectAnswered"]
    summary = program.json("verify").object()
    assert summary["mismatches"] == []
