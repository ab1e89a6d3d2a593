"""The table of content types: ours, and the same on every machine."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.stamping.content_types import _BY_EXTENSION, _BY_NAME, content_type_of


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("a.txt", "text/plain"),
        ("folder.d/PHOTO.JPG", "image/jpeg"),
        ("a.b.c/report.pdf", "application/pdf"),
        ("archive.tar.gz", "application/gzip"),
        ("src/Makefile", "text/x-makefile"),
        ("Dockerfile", "text/x-dockerfile"),
        (".gitignore", "text/plain"),
        ("CMakeLists.txt", "text/x-cmake"),
        (".txt", "application/octet-stream"),
        ("txt", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        ("folder.txt/plain", "application/octet-stream"),
    ],
)
def test_a_name_has_the_content_type_of_our_table(path: str, content_type: str) -> None:
    assert content_type_of(path) == content_type


@given(st.text(min_size=1))
def test_every_name_has_a_content_type(path: str) -> None:
    assert "/" in content_type_of(path)


def test_the_table_is_in_lower_case_and_its_content_types_are_well_formed() -> None:
    table = _BY_NAME | _BY_EXTENSION
    assert [name for name in table if name != name.lower()] == []
    well_formed = re.compile(r"(application|audio|font|image|message|text|video)/[\w.+-]+")
    assert [what for what in table.values() if not well_formed.fullmatch(what)] == []
