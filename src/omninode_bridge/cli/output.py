"""How results are printed: tables for people, JSON for programs.

Rule 1: names and reasons come from files and users: whatever a terminal could obey is escaped.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH_MAX: Final = 100_000
"""Of a line that goes into a file or a pipe: nothing is cut off there."""


def say(words: str) -> None:
    """Tell a person something, on standard error."""
    sys.stderr.write("omninode-bridge: " + printable(words, keep="\n") + "\n")


def printable(text: str, keep: str = "") -> str:
    """Return `text` with its unprintable characters as escapes, but for those of `keep`."""
    return "".join(
        each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text
    )


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on a line of its own."""
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")


def print_object(title: str, value: Mapping[str, Any]) -> None:
    """Print one object as a table of its fields; nested ones as dotted names."""
    # As text: in a string, rich would read square brackets and colons as its own.
    table = Table(title=Text(printable(title)), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="left")
    for name, cell in _flattened(value):
        table.add_row(Text(name), _cell(cell))
    _console().print(table)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as a table under the names of their columns."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(cell) for cell in row))
    _console().print(table)


def flush() -> None:
    """Hand on what was printed, so that a reader who has gone is noticed here."""
    sys.stdout.flush()


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_MAX)


def _flattened(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, cell in value.items():
        dotted = printable(f"{prefix}{name}")
        if isinstance(cell, dict) and cell:
            yield from _flattened(cell, f"{dotted}.")
        else:
            yield dotted, cell


def _cell(value: object) -> Text:
    match value:
        case None:
            return Text("-")
        case bool():
            return Text("yes" if value else "no")
        case int():
            return Text(f"{value:,}")
        case float():
            return Text(f"{value:,.3f}")
        case datetime():
            return Text(value.isoformat(sep=" ", timespec="milliseconds"))
        case str():
            return Text(printable(value))
        case dict() | list():
            return Text(printable(orjson.dumps(value).decode()))
        case _:
            return Text(printable(str(value)))
