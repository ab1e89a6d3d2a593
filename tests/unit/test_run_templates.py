"""Templates of runs: one reference alone keeps its type, within a text it becomes text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.orchestration.templates import (
    MissingReference,
    Reference,
    fill,
    fill_text,
    parse,
    references,
)
from tests.unit.actions import json_values

if TYPE_CHECKING:
    from typing import Any

KNOWN = {"input": {"n": 7, "yes": True, "none": None, "list": [1, {"a": "x"}], "text": "{input.n}"}}


@given(json_values)
def test_a_reference_alone_keeps_the_type_of_what_it_leads_to(value: object) -> None:
    assert fill("{input.x}", {"input": {"x": value}}) == value
    assert fill({"a": ["{input}"]}, {"input": {"x": value}}) == {"a": [{"x": value}]}


@given(st.text(max_size=20))
def test_a_text_without_references_is_itself(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert fill(escaped, {}) == text
    assert list(references(escaped)) == []


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("order {input.n}", "order 7"),
        ("{input.n}{input.yes}", "7true"),
        ("{input.list.1.a}", "x"),
        ("{input.list.0}", 1),
        ("{input.text}", "{input.n}"),
        ("{{{input.n}}}", "{7}"),
        ("", ""),
        (7, 7),
        (None, None),
        (["{input.n}", {"a": "{input.none}"}], [7, {"a": None}]),
    ],
)
def test_references_become_what_they_lead_to(template: object, filled: object) -> None:
    assert fill(template, KNOWN) == filled


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{input.m}", "{input.m} leads nowhere: input has no 'm'"),
        ("{input.n.m}", "{input.n.m} leads nowhere: input.n has no 'm'"),
        ("{steps.a.version}", "{steps.a.version} leads nowhere: the run has no 'steps'"),
        ("{input.list.2}", "input.list has no '2'"),
        ("{input.list.-1}", "input.list has no '-1'"),
        (f"{{input.list.{'9' * 5_000}}}", "leads nowhere: input.list has no '99999"),
        ("x{input.none}", "{input.none} is null, which cannot stand within a text"),
        ("x{input.list}", "is a list"),
        ("x{input}", "is an object"),
    ],
)
def test_what_leads_nowhere_is_told(template: str, words: str) -> None:
    with pytest.raises(MissingReference) as caught:
        fill(template, KNOWN)
    assert words in str(caught.value)


def test_a_key_is_text_whatever_it_is_made_of() -> None:
    assert fill_text("{input.n}", KNOWN) == "7"
    with pytest.raises(MissingReference):
        fill_text("{input.list}", KNOWN)


@pytest.mark.parametrize("text", ["{", "}", "{a", "a}", "{a.}", "{.a}", "{}", "{a..b}"])
def test_half_a_reference_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"other half|no reference"):
        parse(text)


def test_references_are_found_wherever_they_are() -> None:
    template: Any = {"a": ["{input.n}", {"b": "{workflow_id} {step_id}"}], "c": 1}
    found = list(references(template))
    assert found == [
        Reference(("input", "n")),
        Reference(("workflow_id",)),
        Reference(("step_id",)),
    ]
    assert str(found[0]) == "{input.n}"
