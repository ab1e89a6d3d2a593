"""Templates: text with columns in braces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.ingest.template import Template

texts = st.text(max_size=20)
columns = st.text(st.characters(exclude_characters="{}"), min_size=1, max_size=10)


@given(st.lists(st.tuples(texts, columns), max_size=4), texts, st.lists(texts, min_size=4))
def test_a_template_is_its_text_with_each_column_filled_in(
    parts: list[tuple[str, str]], end: str, values: list[str]
) -> None:
    def literal(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    names = [column for _, column in parts]
    row = dict(zip(dict.fromkeys(names), values, strict=False))
    template = Template.parse(
        "".join(f"{literal(text)}{{{column}}}" for text, column in parts) + literal(end)
    )
    fill = template.compiled({name: place for place, name in enumerate(row)})
    assert template.columns == tuple(names)
    assert fill(list(row.values())) == "".join(text + row[name] for text, name in parts) + end


def test_column_names_may_hold_what_str_format_would_read_as_its_own() -> None:
    template = Template.parse("case:{case:concept:name}/{a.b[0]!r}")
    assert template.columns == ("case:concept:name", "a.b[0]!r")
    fill = template.compiled({"case:concept:name": 1, "a.b[0]!r": 0})
    assert fill(["100 %s", "17"]) == "case:17/100 %s"


@pytest.mark.parametrize("text", ["{", "}", "a{b", "a}b", "{a}}", "{{a}", "{a{b}}", "{}", "x{}y"])
def test_a_brace_without_its_other_half_or_a_column_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="brace"):
        Template.parse(text)


def test_the_prefix_is_the_literal_text_before_the_first_column() -> None:
    assert Template.parse("a:{b}c").prefix == "a:"
    assert Template.parse("{b}c").prefix == ""
    assert Template.parse("").prefix == ""
    assert Template.parse("a{{:}}").prefix == "a{:}"
