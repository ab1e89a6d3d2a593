"""A contract says one thing, or says on which line it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.ingest import ContractError, load_contract
from omninode_bridge.ingest.contract import RESERVED_KEY_TYPES, restore_contract

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "loan-application.yaml"
CONTRACT: Final = """\
name: parcel
version: 1
namespace: post
key: "parcel:{number}"
action_type: "{event}"
occurred_at: "{date}T{time}{offset}"
payload: [place, details]
json_columns: [details]
state_machine:
  initial: NEW
  unmatched: keep
  states: [NEW, SENT, ARRIVED]
  transitions:
    - {trigger: Posted, from: [NEW], to: SENT}
    - {trigger: Handed, from: ["*"], to: ARRIVED}
"""
AGAIN: Final = "{trigger: Handed, from: ['*'], to: NEW}"


def wrong(text: str) -> ContractError:
    with pytest.raises(ContractError) as caught:
        load_contract(text, "parcel.yaml")
    error = caught.value
    assert str(error) == f"parcel.yaml:{error.line}: {error.detail}"
    return error


def document() -> dict[str, Any]:
    return load_contract(CONTRACT, "parcel.yaml").as_dict()


def test_a_contract_is_read_with_all_its_fields() -> None:
    contract = load_contract(CONTRACT, "parcel.yaml")
    assert contract.name == "parcel"
    assert contract.version == 1
    assert contract.namespace == "post"
    assert contract.key_type == "parcel"
    assert contract.key.columns == ("number",)
    assert contract.occurred_at.columns == ("date", "time", "offset")
    assert contract.payload == ("place", "details")
    assert contract.json_columns == ("details",)
    assert contract.machine.states == ("NEW", "SENT", "ARRIVED")
    assert contract.machine.unmatched == "keep"


def test_payload_json_columns_and_unmatched_may_be_left_out_and_unmatched_rejects_then() -> None:
    lines = CONTRACT.splitlines()
    short = [line for line in lines if not line.lstrip().startswith(("payload", "json", "unm"))]
    contract = load_contract("\n".join(short), "parcel.yaml")
    assert contract.payload == contract.json_columns == ()
    assert contract.machine.unmatched == "reject"


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_yaml(indent: str | int | None) -> None:
    text = json.dumps(document(), indent=indent)
    assert load_contract(text, "parcel.json") == load_contract(CONTRACT, "parcel.yaml")


def test_an_error_in_json_names_its_line_too() -> None:
    broken = document() | {"version": "1"}
    error = wrong(json.dumps(broken, indent="\t"))
    assert error.line == 3
    assert "unquoted" in error.detail


def test_the_example_is_a_contract() -> None:
    contract = load_contract(EXAMPLE.read_text(encoding="utf-8"), str(EXAMPLE))
    assert contract.name == "loan-application"
    assert len(contract.machine.states) == 8
    assert {rule.sources for rule in contract.machine.rules} == {("*",)}


@pytest.mark.parametrize(
    ("line", "old", "new", "said"),
    [
        (1, "name: parcel", "nam: parcel", "no field 'nam'"),
        (1, "name: parcel", "name: ''", "must not be empty"),
        (1, "name: parcel", "name: NO", 'quote it, "NO"'),
        (1, "name: parcel", "name: [parcel]", "must be text, not a list"),
        (1, "name: parcel", 'name: "par\\ncel"', "printable"),
        (1, "name: parcel", f"name: {'x' * 201}", "at most 200"),
        (1, "name: parcel\n", "", "lacks 'name'"),
        (3, "version: 1", "version: 1\nversion: 2", "given twice, first on line 2"),
        (2, "version: 1", 'version: "1"', "unquoted"),
        (2, "version: 1", "version: 010", "whole number"),
        (2, "version: 1", "version: 1:30", "whole number"),
        (2, "version: 1", "version: 1.5", "whole number"),
        (2, "version: 1", "version: 0", "whole number"),
        (2, "version: 1", "version: -1", "whole number"),
        (2, "version: 1", "version:", "whole number"),
        (2, "version: 1", "version: yes", "whole number"),
        (2, "version: 1", "version: {a: 1}", "not a mapping"),
        (3, "namespace: post", "namespace: 2011-10-01", "as a date: quote it"),
        (3, "namespace: post", "namespace: on", "as yes or no: quote it"),
        (3, "namespace: post", "namespace: 1_000", "as a number: quote it"),
        (3, "namespace: post", "namespace: ~", "as nothing: quote it"),
        (3, "namespace: post", "namespace: !mine post", "as !mine"),
        (3, "namespace: post", 'namespace: "a\\0b"', "NUL"),
        (3, "namespace: post", 'namespace: "\\ud800"', "surrogate"),
        (4, "parcel:{number}", "{number}", "type of the keys and a colon"),
        (4, "parcel:{number}", "parcel{number}:1", "type of the keys and a colon"),
        (4, "parcel:{number}", ":{number}", "type of the keys and a colon"),
        (4, "parcel:{number}", "parcel:{number", "lacks its other half"),
        (4, "parcel:{number}", "parcel:number}", "lacks its other half"),
        (4, "parcel:{number}", "parcel:{}", "names no column"),
        (4, "parcel:{number}", "parcel:number", "all rows would be on one key"),
        (4, "parcel:{number}", "parcel:{{number}}", "names no column"),
        (7, "[place, details]", "place", "must be a list"),
        (7, "[place, details]", "[details, place, place]", "'place' is listed twice"),
        (7, "[place, details]", "[details, 7]", "item 2 of 'payload' must be text"),
        (8, "[details]", "[weight]", "'weight' is not in 'payload'"),
        (10, "  initial: NEW\n", "", "lacks 'initial'"),
        (10, "initial: NEW", "initial: OLD", "'OLD' is not among the states: NEW, SENT"),
        (11, "unmatched: keep", "unmatched: drop", "must be keep or reject"),
        (12, "unmatched: keep", "unmatched: keep\n  final: SENT", "no field 'final'"),
        (12, "[NEW, SENT, ARRIVED]", "[NEW, SENT, ARRIVED, SENT]", "'SENT' is listed twice"),
        (12, "[NEW, SENT, ARRIVED]", '[NEW, SENT, ARRIVED, "*"]', "means any state"),
        (12, "[NEW, SENT, ARRIVED]", "[NEW, SENT, ARRIVED, NO]", 'quote it, "NO"'),
        (14, "from: [NEW]", "from: [LOST]", "'LOST' is not among the states"),
        (14, "from: [NEW]", "from: []", "must name a state"),
        (14, "from: [NEW]", "from: NEW", "must be a list"),
        (14, "from: [NEW]", "form: [NEW]", "no field 'form'"),
        (14, "to: SENT", "to: LOST", "'LOST' is not among the states"),
        (14, ", to: SENT", "", "lacks 'to'"),
        (15, "trigger: Handed", "trigger: off", 'quote it, "off"'),
        (15, "{trigger: Handed, from", "[trigger, from]  # ", "must be a mapping"),
        (16, "to: ARRIVED}", f"to: ARRIVED}}\n    - {AGAIN}", "on line 15, and to 'NEW' here"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(line: int, old: str, new: str, said: str) -> None:
    assert CONTRACT.count(old) == 1
    error = wrong(CONTRACT.replace(old, new))
    assert said in error.detail
    assert error.line == line


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "is empty"),
        ("# nothing\n", 1, "is empty"),
        ("- a\n- b\n", 1, "must be a mapping"),
        ("just words", 1, "must be a mapping"),
        ("name: x\n bad: [", 2, "not YAML"),
        ("name: x\nversion: 'open\n", 3, "not YAML"),
        ("name: x\nversion: \x01\n", 2, "not YAML"),
        ("name: x\n---\nname: y\n", 2, "not YAML"),
        ("name: *nobody\n", 1, "not YAML"),
        ("[" * 5_000, 1, "nested too deep"),
        ("x" * 300_000, 1, "at most 262,144 characters"),
        ('{\t"name": x', 1, "not YAML"),
        ("? [a, b]\n: c\n", 1, "no field '[...]'"),
    ],
)
def test_what_is_no_contract_at_all_is_said_with_its_line(text: str, line: int, said: str) -> None:
    error = wrong(text)
    assert error.line == line
    assert said in error.detail


def test_a_stored_contract_without_a_column_in_its_key_stays_readable() -> None:
    assert restore_contract(document() | {"key": "parcel:one"}, "stored").key.columns == ()


@pytest.mark.parametrize("key_type", RESERVED_KEY_TYPES)
def test_key_types_of_the_bridge_are_reserved(key_type: str) -> None:
    error = wrong(CONTRACT.replace("parcel:{number}", key_type + ":{number}"))
    assert error.line == 4
    assert "bridge's own" in error.detail


def test_a_characters_two_halves_in_json_are_one_character() -> None:
    text = json.dumps(document() | {"namespace": "\N{PACKAGE}"})
    assert "\\ud83d" in text
    assert load_contract(text, "parcel.json").namespace == "\N{PACKAGE}"


names = st.text(st.characters(exclude_characters="{}\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(names, min_size=1, unique=True), names)
def test_a_stored_contract_is_the_contract(columns: list[str], trigger: str) -> None:
    given = document() | {
        "key": "parcel:" + "-".join(f"{{{column}}}" for column in columns),
        "payload": columns,
        "json_columns": columns[:1],
    }
    given["state_machine"]["transitions"][0]["trigger"] = trigger
    contract = restore_contract(given, "stored")
    assert contract.as_dict() == given
    assert contract.key.columns == tuple(columns)
    assert restore_contract(contract.as_dict(), "again") == contract
