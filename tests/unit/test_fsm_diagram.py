"""The diagram of a state machine is drawn from its table, and shows all of it."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING

from omninode_bridge.core.fsm import ANY, Rule, TransitionTable
from omninode_bridge.core.fsm_diagram import state_diagram
from omninode_bridge.core.machine import WORKFLOW
from omninode_bridge.infrastructure.contracts.machine_page import machine_page
from tests.architecture.source import REPOSITORY

if TYPE_CHECKING:
    import pytest

PAGE = REPOSITORY / "docs" / "architecture" / "fsm.md"


def test_the_page_of_the_documentation_is_the_one_that_the_table_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == machine_page(WORKFLOW), "run `make diagram`"


def test_the_command_writes_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_module("omninode_bridge.infrastructure.contracts", run_name="__main__")
    assert capsys.readouterr().out == machine_page(WORKFLOW)


def test_a_diagram_shows_start_ways_and_ends() -> None:
    assert state_diagram(WORKFLOW.table).splitlines() == [
        "stateDiagram-v2",
        '    state "PENDING" as s0',
        '    state "PROCESSING" as s1',
        '    state "COMPLETED" as s2',
        '    state "FAILED" as s3',
        "    [*] --> s0",
        "    s0 --> s3: fail",
        "    s0 --> s1: start",
        "    s1 --> s2: complete",
        "    s1 --> s3: fail",
        "    s2 --> [*]",
        "    s3 --> [*]",
    ]


def test_a_rule_for_any_state_is_drawn_from_each() -> None:
    table = TransitionTable("on", ("on", "off"), (Rule("cut", (ANY,), "off"),))
    assert state_diagram(table).count(": cut") == 2
    assert "--> [*]" not in state_diagram(table)


def test_what_has_a_meaning_in_a_diagram_is_written_out() -> None:
    table = TransitionTable('a"b', ('a"b', "c:d"), (Rule("x;y\n", ('a"b',), "c:d"),))
    diagram = state_diagram(table)
    assert 'state "a#34;b" as s0' in diagram
    assert 'state "c#58;d" as s1' in diagram
    assert "s0 --> s1: x#59;y#10;" in diagram
