"""What is printed cannot steer a terminal, and is cut nowhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from omninode_bridge.cli import output

if TYPE_CHECKING:
    import pytest


def test_what_a_terminal_could_obey_is_escaped() -> None:
    assert output.printable("a\x1b[31mb\nc\u202e") == "a\\x1b[31mb\\nc\\u202e"


def test_a_line_break_may_be_kept() -> None:
    assert output.printable("one\ntwo\r", keep="\n") == "one\ntwo\\r"


def test_a_lone_surrogate_is_escaped() -> None:
    assert output.printable("bad\udcff") == "bad\\udcff"


def test_json_is_one_object_a_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    value = {"id": UUID(int=1), "at": datetime(2026, 1, 2, tzinfo=UTC), "text": "a\nb"}
    output.print_json(value)
    output.print_json(value)
    output.flush()
    first, second, rest = capfdbinary.readouterr().out.split(b"\n")
    assert first == second
    assert rest == b""
    assert orjson.loads(first) == {
        "id": "00000000-0000-0000-0000-000000000001",
        "at": "2026-01-02T00:00:00+00:00",
        "text": "a\nb",
    }


def test_nested_fields_have_dotted_names(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_object("title", {"state": {"total": 1_000, "none": None, "empty": {}}, "ok": True})
    printed = capsys.readouterr().out
    assert "state.total" in printed
    assert "1,000" in printed
    assert "yes" in printed


def test_a_long_key_is_not_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    key = "file:" + "x" * 500
    output.print_rows(["key", "markup"], [[key, "[bold]stays[/bold]"]])
    printed = capsys.readouterr().out
    assert key in printed
    assert "[bold]stays[/bold]" in printed
