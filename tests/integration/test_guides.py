"""The guides do what they say: every Python block in them is run."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.programs import run

GUIDES: Final = Path(__file__).parents[2] / "docs" / "guides"
BLOCKS: Final = [
    pytest.param(text, id=f"{guide.stem}-{number}")
    for guide in sorted(GUIDES.glob("*.md"))
    for number, text in enumerate(
        re.findall(r"^```python\n(.*?)^```$", guide.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_program_of_a_guide_runs(block: str, server_folder: Path) -> None:
    done = run(sys.executable, "-W", "error", "-c", block, folder=server_folder)
    assert done.status == 0, done.words


def test_the_guide_of_effects_shows_an_effect_that_is_done(server_folder: Path) -> None:
    (block,) = [param.values[0] for param in BLOCKS if param.id == "effects-0"]
    done = run(sys.executable, "-c", str(block), folder=server_folder)
    assert done.out == b"charge done\n", done.words
