"""The contract of a run says one thing, or says on which line it cannot work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
import yaml
from hypothesis import given

from omninode_bridge import ConfigurationError, ContractError, RunContract, load_run_contract
from omninode_bridge.core.orchestration import (
    NESTING_MAX,
    ContractFault,
    check_contract,
    parse_contract,
)
from omninode_bridge.core.orchestration.checks import EFFECT_ATTEMPTS_MAX, STEPS_MAX
from omninode_bridge.core.orchestration.contract import RETRIED, Retry
from omninode_bridge.core.orchestration.stored_contract import restore_contract
from omninode_bridge.infrastructure.contracts import read_run_contract, run_contract_of
from omninode_bridge.infrastructure.contracts.run_contract import TEXT_CHARS_MAX
from tests.unit.test_nesting import nested
from tests.unit.test_run_simulation import contracts

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

CONTRACT: Final = """\
name: order
version: 1
steps:
  - name: reserve
    action: {key: "stock:{input.sku}", type: Reserved, payload: {order: "{workflow_id}"}}
    undo:
      action: {key: "stock:{input.sku}", type: Released, payload: {at: "{steps.reserve.version}"}}
      retry: {attempts: 9}
      timeout_ms: 700
  - name: charge
    depends_on: [reserve]
    effect: {name: ChargeCard, target: "{input.bank}", payload: {amount: "{input.amount}"}}
    undo: {effect: {name: RefundCard, payload: {key: "{step_id}"}}}
    retry: {attempts: 3, base_ms: 100, cap_ms: 5000, reasons: [dead]}
    timeout_ms: 5000
    on_failure: compensate
  - name: tell
    depends_on: [charge]
    action: {key: "mail:{steps.charge.result.mail}", type: Sent}
    on_failure: continue
"""


def wrong(text: str) -> ContractError:
    with pytest.raises(ContractError) as caught:
        load_run_contract(text, "order.yaml")
    error = caught.value
    assert str(error) == f"order.yaml:{error.line}: {error.detail}"
    return error


def test_a_contract_is_read_with_all_its_fields() -> None:
    contract = load_run_contract(CONTRACT, "order.yaml")
    assert (contract.name, contract.version) == ("order", 1)
    reserve, charge, tell = contract.steps
    assert (reserve.ask.kind, reserve.ask.name) == ("action", "Reserved")
    assert reserve.undo is not None
    assert (reserve.undo.retry.attempts, reserve.undo.timeout_ms) == (9, 700)
    assert charge.depends_on == ("reserve",)
    assert (charge.ask.kind, charge.ask.target) == ("effect", "{input.bank}")
    assert charge.retry == Retry(3, 100, 5000, ("dead",))
    assert charge.timeout_ms == 5000
    assert (tell.on_failure, tell.undo, tell.needs_no_undo) == ("continue", None, False)
    assert contract.before("tell") == {"reserve", "charge"}


def test_what_may_be_left_out_has_defaults_and_a_failure_is_compensated() -> None:
    text = 'name: a\nversion: 1\nsteps: [{name: a, action: {key: "k:1", type: T}}]'
    (step,) = load_run_contract(text, "a").steps
    assert step.on_failure == "compensate"
    assert step.retry == Retry(1, 100, 10_000, RETRIED)
    assert (step.timeout_ms, step.depends_on, dict(step.ask.payload)) == (None, (), {})


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_yaml(indent: str | int | None) -> None:
    contract = load_run_contract(CONTRACT, "order.yaml")
    text = json.dumps(contract.as_document(), indent=indent)
    assert load_run_contract(text, "order.json") == contract


@given(contracts())
def test_a_contract_is_restored_from_its_document(document: dict[str, Any]) -> None:
    contract = run_contract_of(document)
    assert restore_contract(contract.as_document()) == contract
    assert parse_contract(contract.as_document()) == contract


def test_values_of_payloads_are_json_whatever_they_are() -> None:
    payload = '{a: 1, b: -2.5, c: true, d: null, e: [x, "7", ""], f: {g: 1e3, "yes": "no"}}'
    contract = load_run_contract(CONTRACT.replace('{order: "{workflow_id}"}', payload), "x")
    assert contract.steps[0].ask.payload == {
        "a": 1,
        "b": -2.5,
        "c": True,
        "d": None,
        "e": ["x", "7", ""],
        "f": {"g": 1000.0, "yes": "no"},
    }


CASES: Final = [
    # -- shape
    (1, "name: order", "nome: order", "no field 'nome'; known are name, version, steps"),
    (1, "name: order\n", "", "lacks 'name'"),
    (1, "name: order", "name: NO", 'quote it, "NO"'),
    (2, "version: 1", "version: 0", "a whole number from 1"),
    (2, "version: 1", 'version: "1"', "a whole number from 1"),
    (3, "version: 1", "version: 1\nversion: 2", "given twice, first on line 2"),
    (10, "name: charge", "nome: charge", "no field 'nome'"),
    (4, "- name: reserve", "- name: 're serve'", "1 to 60 letters, digits, - and _"),
    (10, "- name: charge", "- name: reserve", "two steps are called 'reserve'"),
    (5, "type: Reserved,", "", "lacks 'type'"),
    (5, "type: Reserved", "kind: Reserved", "no field 'kind'; known are key, type, payload"),
    (5, "type: Reserved", "type: ActionAnswered", "is the bridge's own"),
    (5, "payload: {order", "payload: [order", "not YAML"),
    (5, 'payload: {order: "{workflow_id}"}', "payload: order", "'payload' must be a mapping"),
    (12, "effect: {name: ChargeCard", "effect: {name: SubmitAction", "by the bridge itself"),
    (10, "effect: {name: ChargeCard", "affect: {name: ChargeCard", "no field 'affect'"),
    (10, "- name: charge", '- name: charge\n    action: {key: "a:b", type: T}', "either 'action'"),
    # -- policy
    (14, "attempts: 3", "attempts: 0", "a whole number from 1 to 100"),
    (14, "attempts: 3", "attempts: 101", "a whole number from 1 to 100"),
    (14, "attempts: 3, ", "", "lacks 'attempts'"),
    (14, "base_ms: 100", "base_ms: 5001", "'cap_ms' must be at least 'base_ms', which is 5001"),
    (14, "cap_ms: 5000", "cap_ms: 3600001", "a whole number from 1 to 3,600,000"),
    (14, "reasons: [dead]", "reasons: [tired]", "must be reducer_error or conflict or timeout"),
    (15, "timeout_ms: 5000", "timeout_ms: 1.5", "a whole number from 1"),
    (15, "timeout_ms: 5000", "timeout_ms: true", "a whole number from 1"),
    (16, "on_failure: compensate", "on_failure: panic", "fail or compensate or continue"),
    (
        *(13, 'undo: {effect: {name: RefundCard, payload: {key: "{step_id}"}}}'),
        *("undo: never", "'undo' must be a mapping"),
    ),
    # -- order
    (11, "[reserve]", "[reverse]", "no step 'reverse'; the steps are reserve, charge, tell"),
    (11, "[reserve]", "[reserve, reserve]", "'reserve' is listed twice"),
    (11, "[reserve]", "[charge]", "in a circle: charge -> charge"),
    (11, "[reserve]", "[tell]", "in a circle: charge -> tell -> charge"),
    # -- references
    (5, "{workflow_id}", "{workflow}", "known are input.*, workflow_id, step_id"),
    (5, "{workflow_id}", "{workflow_id", "lacks its other half"),
    (5, "{workflow_id}", "{}", "is no reference"),
    (5, "{workflow_id}", "{steps.charge.result.id}", "does not depend on 'charge'"),
    (5, "{workflow_id}", "{steps.reserve.version}", "does not depend on 'reserve'"),
    (5, "{workflow_id}", "{steps.lost.version}", "there is no step 'lost'"),
    (
        12,
        "{input.amount}",
        "{steps.reserve.result.x}",
        "of 'reserve' there is steps.reserve.version",
    ),
    (19, "{steps.charge.result.mail}", "{steps.charge.version}", "there is steps.charge.result"),
    (5, "stock:{input.sku}", "{input.sku}", "must begin with the type of the key and a colon"),
    (5, "stock:{input.sku}", ":{input.sku}", "must begin with the type of the key and a colon"),
    (7, "{steps.reserve.version}", "{steps.charge.result.id}", "does not depend on 'charge'"),
    # -- undo
    (13, 'key: "{step_id}"', 'key: "{steps.charge.result.id}"', "it only may have happened"),
    (13, 'key: "{step_id}"', 'key: ["no {steps.charge.result}"]', "use what it was asked with"),
    (13, "name: RefundCard", 'name: Back, target: "{steps.charge.result.x}"', "'charge' is undone"),
    (10, "    undo: {effect", "    undo_: {effect", "no field 'undo_'"),
]


@pytest.mark.parametrize(("line", "part", "instead", "words"), CASES)
def test_what_cannot_work_is_named_with_its_line(
    line: int, part: str, instead: str, words: str
) -> None:
    assert part in CONTRACT
    error = wrong(CONTRACT.replace(part, instead, 1))
    assert words in error.detail
    if "no field" not in words:
        assert error.line == line, error


def without_undo(name: str) -> str:
    """Return the contract, with a step that lacks its undo."""
    document = load_run_contract(CONTRACT, "order.yaml").as_document()
    for step in document["steps"]:
        if step["name"] == name:
            del step["undo"]
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def test_what_can_have_committed_when_a_step_is_compensated_needs_an_undo() -> None:
    error = wrong(without_undo("reserve"))
    assert "'reserve' lacks 'undo': it can have committed when 'charge' fails" in error.detail
    assert "name: reserve" in without_undo("reserve").splitlines()[error.line - 1]


def test_what_may_happen_after_it_has_failed_needs_an_undo_too() -> None:
    error = wrong(without_undo("charge"))
    assert "'charge' lacks 'undo': it may turn out to have happened after" in error.detail


def test_steps_beside_the_one_that_fails_need_an_undo_those_behind_it_do_not() -> None:
    steps = [
        {"name": "first", "action": {"key": "a:1", "type": "T"}},
        {"name": "behind", "depends_on": ["first"], "action": {"key": "a:1", "type": "T"}},
    ]
    for step in steps:
        step["on_failure"] = "fail" if step["name"] == "behind" else "compensate"
    run_contract_of({"name": "a", "version": 1, "steps": steps})
    steps[1]["depends_on"] = []
    with pytest.raises(ContractError, match="'behind' lacks 'undo': it can have committed when"):
        run_contract_of({"name": "a", "version": 1, "steps": steps})
    steps[1]["undo"] = "none"
    run_contract_of({"name": "a", "version": 1, "steps": steps})


def test_an_undo_may_refer_to_other_steps_and_to_the_version_of_its_own_action() -> None:
    undo = '{effect: {name: Back, payload: {at: "{steps.reserve.version}"}}}'
    text = CONTRACT.replace('{effect: {name: RefundCard, payload: {key: "{step_id}"}}}', undo)
    assert load_run_contract(text, "order.yaml").steps[1].undo is not None
    undo = '    undo: {effect: {name: Unsend, payload: {to: "{steps.charge.result.mail}"}}}\n'
    assert load_run_contract(CONTRACT + undo, "order.yaml").steps[2].undo is not None


def test_a_payload_is_not_nested_too_deep() -> None:
    def contract_with(depth: int, *, undo: bool) -> dict[str, Any]:
        deep = {"key": "a:1", "type": "T", "payload": {"deep": nested(depth - 1)}}
        action = {"key": "a:1", "type": "T"} if undo else deep
        step = {"name": "a", "action": action, "undo": {"action": deep} if undo else "none"}
        return {"name": "a", "version": 1, "steps": [step]}

    for undo in (False, True):
        run_contract_of(contract_with(NESTING_MAX, undo=undo))
        for depth in (NESTING_MAX + 1, 5_000):
            with pytest.raises(ContractError, match=r"payload: is nested more than 100 deep"):
                run_contract_of(contract_with(depth, undo=undo))


def test_a_circle_is_shown_from_one_step_back_to_it() -> None:
    def step(name: str, *after: str) -> dict[str, Any]:
        action = {"key": "a:1", "type": "T"}
        return {"name": name, "depends_on": list(after), "action": action, "undo": "none"}

    steps = [step("x"), step("a", "c", "x"), step("b", "a"), step("c", "b"), step("d", "c")]
    with pytest.raises(ContractError, match="in a circle: a -> c -> b -> a"):
        run_contract_of({"name": "a", "version": 1, "steps": steps})


def test_sizes_are_bounded() -> None:
    action = {"key": "a:1", "type": "T"}
    many = [{"name": f"s{n}", "action": action, "undo": "none"} for n in range(STEPS_MAX + 1)]
    with pytest.raises(ContractError, match="a contract has 1 to 100 steps"):
        run_contract_of({"name": "a", "version": 1, "steps": many})
    with pytest.raises(ContractError, match="a contract has 1 to 100 steps"):
        run_contract_of({"name": "a", "version": 1, "steps": []})
    effect = {"effect": {"name": "E"}, "undo": "none", "retry": {"attempts": 100}}
    some = [{"name": f"s{n}", **effect} for n in range(1 + EFFECT_ATTEMPTS_MAX // 100)]
    with pytest.raises(ContractError, match="asked for 500 times; 400 are allowed"):
        run_contract_of({"name": "a", "version": 1, "steps": some})
    assert "at most 262,144" in wrong("#" * (TEXT_CHARS_MAX + 1)).detail


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: &a [*a]", "contains itself"),
        ("a: 18446744073709551616", "64 bits"),
        ("a: -9223372036854775809", "64 bits"),
        ("a: 1e999", "64 bits"),
        (f"a: {'9' * 5_000}", "64 bits"),
        ("yes: 1", "quote it"),
        ("a: 0x10", "quote it"),
        ("a: 2011-10-01", "quote it"),
        ("a: ~", "quote it"),
        ("[a]", "must be a mapping"),
        ("", "is empty"),
        ("a: 1\na: 2", "given twice"),
        ("{a: 1, 2: 3}", "quote it"),
        ("a: &x [1]\n<<: *x", "as tag:yaml.org,2002:merge"),
    ],
)
def test_yaml_that_has_two_meanings_or_none_is_refused(text: str, words: str) -> None:
    assert words in wrong(text).detail


def test_a_few_lines_that_mean_a_billion_values_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 100,000 values" in wrong("\n".join(lines)).detail


def test_a_file_is_read_or_is_told_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "order.yaml"
    file.write_text(CONTRACT, encoding="utf-8")
    assert read_run_contract(file) == load_run_contract(CONTRACT, "order.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read as a contract"):
        read_run_contract(tmp_path / "none.yaml")
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="cannot be read as a contract"):
        read_run_contract(file)


def test_a_fault_of_a_document_names_the_place() -> None:
    document = load_run_contract(CONTRACT, "order.yaml").as_document()
    document["steps"][1]["depends_on"] = ["lost"]
    with pytest.raises(ContractError, match=r"steps\.1\.depends_on\.0: there is no step 'lost'"):
        run_contract_of(document)
    with pytest.raises(ContractFault, match=r"^a contract must be a mapping"):
        parse_contract([])
    assert isinstance(parse_contract(document), RunContract)
    with pytest.raises(ContractFault):
        check_contract(parse_contract(document))
