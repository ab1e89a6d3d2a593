"""The documents lead somewhere: their links, the decisions' index, the promises that are cited."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.architecture.source import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
PROMISE = re.compile(r"\(R(\d+)[),]")


def within(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=within)
def test_a_link_leads_to_a_file(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_index_lists_each_decision_by_its_title() -> None:
    folder = REPOSITORY / "docs" / "decisions"
    rows = re.findall(
        r"^\| \[(\d+)\]\((.+)\) \| (.+) \|$", (folder / "README.md").read_text(), re.MULTILINE
    )
    titles = [
        (path.name[:4], path.name, path.read_text().partition("\n")[0])
        for path in sorted(folder.glob("[0-9]*.md"))
    ]
    assert [(number, name, f"# {int(number)}. {title}") for number, name, title in rows] == titles


def test_a_promise_that_is_cited_is_made() -> None:
    text = (REPOSITORY / "docs" / "promises.md").read_text(encoding="utf-8")
    made = set(re.findall(r"^- \*\*R(\d+) ", text, re.MULTILINE))
    sources = [
        path
        for folder in ("src", "tests", "migrations", "docs")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in {".py", ".sql", ".md"}
    ]
    cited = {number for path in sources for number in PROMISE.findall(path.read_text())}
    assert cited <= made
