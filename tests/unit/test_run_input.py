"""What starts a run is checked before it is sent, and the message names the part that is wrong."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from omninode_bridge import InvalidAction
from omninode_bridge.core.orchestration import NESTING_MAX
from omninode_bridge.host.run_input import words_of
from omninode_bridge.infrastructure.contracts import run_contract_of
from tests.unit.actions import CODEC
from tests.unit.test_nesting import nested

STEP: dict[str, Any] = {"name": "a", "action": {"key": "k:1", "type": "Did"}}
CONTRACT = run_contract_of({"name": "c", "version": 1, "steps": [STEP]})


def test_the_words_are_the_contract_with_its_defaults_and_the_input() -> None:
    given = MappingProxyType({"sku": "tea", "deep": nested(NESTING_MAX - 1)})
    said, encoded = words_of(CONTRACT, given, CODEC)
    assert said == {"contract": CONTRACT.as_document(), "input": dict(given)}
    assert CODEC.decode(encoded) == said


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ([1], "input", "must be a JSON object"),
        (None, "input", "not a NoneType"),
        ("sku", "input", "not a str"),
        ({"x": float("nan")}, "input.x", "nan is not a JSON number"),
        ({"a": 1, "lines": [1, {"price": float("inf")}]}, "input.lines.1.price", "inf is not"),
        ({"x": {1}}, "input.x", "set"),
        ({"x": {"y": 2**64}}, "input.x.y", "64"),
        ({"x": "a\0b"}, "input.x", "NUL"),
        ({"x": "\ud800"}, "input.x", "surrogate"),
        ({"x": {1: 2}}, "input.x", "str"),
        ({"x": {"a\0": 2}}, "input.x", "NUL"),
        ({"x": nested(NESTING_MAX)}, "input", "is nested more than 100 deep"),
        ({"x": nested(5_000)}, "input", "is nested more than 100 deep"),
    ],
)
def test_what_cannot_be_an_input_is_refused_by_its_part(
    given: object, field: str, words: str
) -> None:
    with pytest.raises(InvalidAction) as caught:
        words_of(CONTRACT, given, CODEC)
    assert caught.value.field == field
    assert words in caught.value.detail


def test_a_contract_with_what_is_no_json_is_refused_too() -> None:
    step = STEP | {"action": STEP["action"] | {"payload": {"rate": float("nan")}}}
    contract = run_contract_of({"name": "c", "version": 1, "steps": [step]})
    with pytest.raises(InvalidAction, match=r"contract\.steps\.0\.action\.payload\.rate: nan is"):
        words_of(contract, {}, CODEC)
