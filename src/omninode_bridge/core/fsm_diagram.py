"""A state machine as a diagram, in the language of Mermaid: drawn from its table, never by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omninode_bridge.core.fsm import TransitionTable


def state_diagram(table: TransitionTable) -> str:
    """Return the diagram of `table`: where it starts, every way there is, and where it ends.

    States get names of the diagram's own (`s0`, `s1`, ...), so that any text can be a state.
    """
    names = {state: f"s{number}" for number, state in enumerate(table.states)}
    lines = ["stateDiagram-v2"]
    lines += [f"    state {_quoted(state)} as {name}" for state, name in names.items()]
    lines.append(f"    [*] --> {names[table.initial]}")
    lines += [
        f"    {names[state]} --> {names[way.target]}: {_plain(way.trigger)}"
        for state in table.states
        for way in table.ways(state)
    ]
    lines += [f"    {names[state]} --> [*]" for state in table.terminal()]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return f'"{_plain(text)}"'


def _plain(text: str) -> str:
    """Write what has a meaning in a diagram as its number."""
    return "".join(each if each.isalnum() or each in " _-." else f"#{ord(each)};" for each in text)
