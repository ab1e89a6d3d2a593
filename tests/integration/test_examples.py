"""The examples do what their pages say: every command of a page is run, from top to bottom."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.programs import PROGRAM, run

REPOSITORY: Final = Path(__file__).parents[2]
PAGES: Final = sorted(REPOSITORY.glob("examples/*/README.md"))
GUIDE: Final = REPOSITORY / "docs" / "guides" / "orchestration.md"
LINES: Final = re.MULTILINE | re.DOTALL
FLAGS: Final = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def folder(server_folder: Path) -> Path:
    """Return a folder with the examples in it."""
    shutil.copytree(REPOSITORY / "examples", server_folder / "examples")
    return server_folder


def commands(page: Path) -> list[tuple[str, str]]:
    """Return the commands of a page, each with what it shows."""
    blocks = re.findall(
        r"^```console\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    found: list[tuple[str, str]] = []
    for block in blocks:
        found += re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    return found


def run_commands(page: Path, folder: Path) -> None:
    """Run them all, and compare."""
    path = os.pathsep.join((str(PROGRAM.parent), os.environ["PATH"]))
    checker = doctest.OutputChecker()
    for command, shown in commands(page):
        done = run("sh", "-c", command, folder=folder, PATH=path, PYTHONWARNINGS="error")
        assert done.status == 0, done.words
        assert checker.check_output(shown, done.out.decode(), FLAGS), done.out.decode()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_an_example_does_what_its_page_says_and_does_it_twice(page: Path, folder: Path) -> None:
    run_commands(page, folder)
    run_commands(page, folder)


def test_an_order_with_another_content_under_its_old_id_is_one_clear_line(folder: Path) -> None:
    program = folder / "examples" / "order_fulfilment" / "orders.py"
    assert run(sys.executable, program, ".data", folder=folder).status == 0
    text = program.read_text("utf-8")
    program.write_text(text.replace('"quantity": 3', '"quantity": 4', 1), "utf-8")
    done = run(sys.executable, program, ".data", folder=folder)
    assert (done.status, done.out) == (1, b"")
    (line,) = done.words.splitlines()
    assert "run order-1 was already started with another contract or input" in line


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("document_intake/intake.py", []),
        ("document_intake/intake.py", ["nowhere"]),
        ("document_intake/intake.py", [".", ".data", "more"]),
        ("order_fulfilment/orders.py", [".data", "more"]),
    ],
)
def test_an_example_used_wrongly_says_how_to_use_it(
    program: str, arguments: list[str], folder: Path
) -> None:
    done = run(sys.executable, folder / "examples" / program, *arguments, folder=folder)
    assert (done.status, done.out) == (2, b"")
    (line,) = done.words.splitlines()
    assert line.startswith("usage: ")


def test_the_guide_to_orchestration_does_what_it_says(folder: Path) -> None:
    text = GUIDE.read_text("utf-8")
    for name, content in re.findall(
        r"^```(?:yaml|python) (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        (folder / name).write_text(content, "utf-8")
    assert commands(GUIDE)
    run_commands(GUIDE, folder)
