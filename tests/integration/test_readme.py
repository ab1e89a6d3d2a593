"""The README does what it says: every block of code in it is run, from top to bottom."""

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
README: Final = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS: Final = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON: Final = [text for language, text in BLOCKS if language == "python"]
CONSOLE: Final = [text for language, text in BLOCKS if language == "console"]


@pytest.fixture
def folder(server_folder: Path) -> Path:
    """Return a folder with the examples in it."""
    shutil.copytree(REPOSITORY / "examples", server_folder / "examples")
    return server_folder


def test_each_block_is_of_a_kind_that_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "console"}
    assert (len(PYTHON), len(CONSOLE)) == (2, 2)


@pytest.mark.parametrize("block", PYTHON, ids=["first program", "asked twice"])
def test_a_program_runs(block: str, folder: Path) -> None:
    done = run(sys.executable, "-W", "error", "-c", block, folder=folder)
    assert done.status == 0, done.words


def test_the_first_program_prints_what_it_read(folder: Path) -> None:
    done = run(sys.executable, "-c", PYTHON[0], folder=folder)
    assert done.out == b"open {'total': 40}\n1 {'total': 40, 'status': 'open'}\n"


def test_the_commands_print_what_is_shown(folder: Path) -> None:
    path = os.pathsep.join((str(PROGRAM.parent), os.environ["PATH"]))
    checker = doctest.OutputChecker()
    for block in CONSOLE:
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            done = run("sh", "-c", command, folder=folder, PATH=path)
            assert done.status == 0, done.words
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert checker.check_output(shown, done.out.decode(), flags), done.out.decode()
