"""Names of stamping: what a namespace may be called, and which two actions are the same one."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.message import KEY_BYTES_MAX, check_workflow_key
from omninode_bridge.stamping import check_namespace
from omninode_bridge.stamping.keys import (
    file_key,
    parts_of,
    path_bytes_max,
    removal_id,
    stamp_id,
)

A: Final = "a" * 64
B: Final = "b" * 64
text: Final = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@pytest.mark.parametrize("namespace", ["docs", "a:b", "grün", "x" * 200, "two words", "."])
def test_a_namespace_is_any_text_without_a_slash(namespace: str) -> None:
    assert check_namespace(namespace) == namespace


@pytest.mark.parametrize(
    ("namespace", "wrong"),
    [
        ("", "cannot be empty"),
        ("a/b", "slash"),
        ("a\0b", "NUL"),
        ("a\ud800", "UTF-8"),
        ("x" * 201, "at most 200 bytes, not 201"),
        ("ü" * 101, "at most 200 bytes, not 202"),
    ],
)
def test_what_is_no_namespace_is_told_why(namespace: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        check_namespace(namespace)


@given(text.filter(lambda name: "/" not in name), text)
def test_namespace_and_path_are_read_back_from_a_key(namespace: str, path: str) -> None:
    assert parts_of(file_key(namespace, path)) == (namespace, path)


def test_the_longest_path_makes_the_longest_key() -> None:
    key = file_key("grün", "x" * path_bytes_max("grün"))
    assert len(key.encode()) == KEY_BYTES_MAX
    assert check_workflow_key(key) == key


def test_a_b_a_are_three_stamps_and_a_retry_is_one() -> None:
    key = file_key("docs", "a.txt")
    first, second, third = stamp_id(key, 0, A), stamp_id(key, 1, B), stamp_id(key, 2, A)
    assert len({first, second, third}) == 3
    assert stamp_id(key, 0, A) == first


def test_no_two_different_requests_share_an_id() -> None:
    keys = [file_key("docs", "a"), file_key("docs", "b"), file_key("docs2", "a")]
    ids = [stamp_id(key, version, h) for key in keys for version in range(12) for h in (A, B)]
    ids += [removal_id(key, version) for key in keys for version in range(12)]
    assert len(set(ids)) == len(ids)


def test_ids_stay_the_same_from_release_to_release() -> None:
    # Otherwise a run of the next release could do again what one of this release has done.
    key = file_key("docs", "a.txt")
    assert str(stamp_id(key, 0, A)) == "b1a358d0-28bc-5b77-8e7c-732647899e4b"
    assert str(removal_id(key, 1)) == "9139eb4f-dd25-5f9f-8cc9-2ea973a80f5e"
