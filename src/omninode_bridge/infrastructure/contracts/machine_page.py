"""The page of the documentation that shows a state machine: made from its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode_bridge.core.fsm_diagram import state_diagram

if TYPE_CHECKING:
    from omninode_bridge.core.machine import Machine


def machine_page(machine: Machine) -> str:
    """Return the page of `machine`: its diagram, and its ways as a table."""
    table = machine.table
    rows = [f"| `{state}` | {_ways(machine, state)} |" for state in table.states]
    return "\n".join(
        [
            f"# The state machine `{machine.name}`, version {machine.version}",
            "",
            "Made from the table in `core/machine.py` by `make diagram`: change the table, and not",
            "this page. One test compares the two, another the table and the contract in which it",
            "stands.",
            "",
            "```mermaid",
            state_diagram(table),
            "```",
            "",
            f"It begins in `{table.initial}`. What is not in the table does not happen; the answer",
            "says what would have been allowed.",
            "",
            "| state | ways out of it |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _ways(machine: Machine, state: str) -> str:
    ways = machine.table.ways(state)
    return ", ".join(f"`{way.trigger}` to `{way.target}`" for way in ways) or "none: it is terminal"
