"""A node's contract and its code say the same, and a contract that does not says where."""

from __future__ import annotations

import ast
import inspect
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from omninode_bridge.core import topics
from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.core.machine import WORKFLOW
from omninode_bridge.core.observation import EventPublished
from omninode_bridge.infrastructure.contracts import NodeContractError, load_node_contract
from omninode_bridge.infrastructure.contracts.checking import check_contract
from omninode_bridge.infrastructure.contracts.node_contract import read_contract
from omninode_bridge.nodes.database_adapter_effect.v1_0_0.node import NodeBridgeStoreEffect
from omninode_bridge.nodes.models import ModelContractEffect, ModelReducerInput
from omninode_bridge.nodes.orchestrator.v1_0_0.node import NodeBridgeOrchestrator
from omninode_bridge.nodes.reducer.v1_0_0.node import (
    PERSIST_STATE,
    STORE_EFFECT,
    NodeBridgeReducer,
)
from tests.doors import new_world, opened

if TYPE_CHECKING:
    from omninode_bridge.infrastructure.contracts import Door

NODES: list[type[Door]] = [NodeBridgeReducer, NodeBridgeStoreEffect, NodeBridgeOrchestrator]
every_node = pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)


def text_of(node: type[Door]) -> str:
    package = node.__module__.rpartition(".")[0]
    return (files(package) / "contract.yaml").read_text(encoding="utf-8")


@every_node
def test_the_contract_of_a_node_is_kept_by_its_code(node: type[Door]) -> None:
    contract = load_node_contract(node)
    assert contract.name == node.__name__
    assert set(contract.published_topics) == set(node.published)


@every_node
def test_a_node_has_no_base_class_and_takes_what_it_needs(node: type[Door]) -> None:
    assert node.__bases__ == (object,)
    parameters = list(inspect.signature(node).parameters.values())
    assert parameters
    assert all(parameter.default is parameter.empty for parameter in parameters)


def test_the_intent_of_the_reducer_leads_to_the_store_effect() -> None:
    (intent,) = load_node_contract(NodeBridgeReducer).intents
    assert (intent.intent_type, intent.target) == (PERSIST_STATE, STORE_EFFECT)
    assert intent.topic == topics.PERSIST_STATE


async def test_what_the_store_effect_publishes_is_what_its_contract_says() -> None:
    async with opened(new_world()) as doors:
        await doors.fsm.initialize_workflow("17")
        persist = {"workflow_key": "counter:1", "state_prime": {"count": 1, "total": 1}}
        move = {"workflow_id": "17", "from_state": "PENDING"}
        operations: tuple[dict[str, Any], ...] = (
            *({"operation": "persist_state", "expected_version": 0, **persist} for _ in range(2)),
            {"operation": "fsm_transition", "to_state": "COMPLETED", **move},
            {"operation": "fsm_transition", "to_state": "PROCESSING", **move},
            {"operation": "fsm_transition", "to_state": "PROCESSING", **move},
            {"operation": "fsm_transition", "to_state": "FAILED", **move, "workflow_id": "18"},
        )
        for asked in operations:
            more = {"action_id": str(uuid4())} if asked["operation"] == "persist_state" else {}
            effect = ModelContractEffect(input_data={**asked, **more})
            await doors.store_effect.execute_effect(effect)
        published = {fact.topic for fact in doors.facts if isinstance(fact, EventPublished)}
    assert published == set(load_node_contract(NodeBridgeStoreEffect).published_topics)


def bus_calls(node: type[Door], methods: set[str]) -> set[str]:
    """Return which of these methods of a bus the module of a node calls."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(node)))  # type: ignore[arg-type] # it has one
    called = (each.func for each in ast.walk(tree) if isinstance(each, ast.Call))
    return {each.attr for each in called if isinstance(each, ast.Attribute)} & methods


@every_node
def test_a_node_calls_a_bus_for_what_its_contract_says_and_for_nothing_else(
    node: type[Door],
) -> None:
    contract = load_node_contract(node)
    assert bool(bus_calls(node, {"publish"})) == bool(contract.published_topics)
    hears = bus_calls(node, {"expect", "wait_any", "subscribe", "read", "poll"})
    assert bool(hears) == bool(contract.subscribed_topics)


def test_the_state_machine_of_the_store_effect_is_the_one_in_the_core() -> None:
    contract = load_node_contract(NodeBridgeStoreEffect).state_machine
    assert contract is not None
    assert contract.machine == WORKFLOW
    assert sorted(contract.terminal) == ["COMPLETED", "FAILED"]


REDUCER = text_of(NodeBridgeReducer)
STORE = text_of(NodeBridgeStoreEffect)


@pytest.mark.parametrize(
    ("node", "before", "after", "field"),
    [
        (NodeBridgeReducer, "name: NodeBridgeReducer", "name: NodeBridgeOther", "name"),
        (NodeBridgeReducer, "version: 1.0.0", "version: 1.0.1", "version"),
        (NodeBridgeReducer, "version: 1.0.0", "version: '1'", "version"),
        (NodeBridgeReducer, "node_type: reducer", "node_type: reducers", "node_type"),
        (NodeBridgeReducer, "method: process", "method: handle", "method"),
        (NodeBridgeReducer, "method: process", "method: __init__", "method"),
        (NodeBridgeReducer, "ModelReducerInput", "ModelReducerOutput", "input_model"),
        (NodeBridgeReducer, "[omninode_bridge.nodes.models.Mo", "[missing.Mo", "output_models"),
        *(
            (node, "subscribed_topics: []", f"subscribed_topics: [{topic}]", "subscribed_topics")
            for node in NODES
            for topic in (topics.ACTION, "onex.cmd.omninode-bridge.action.v2")
        ),
        (NodeBridgeReducer, "persist-state.v1", "persist-state.v2", "intents"),
        (NodeBridgeReducer, "intent_type: PersistState", "intent_type: Persist", "intents"),
        (NodeBridgeReducer, "target: store_effect", "aim: store_effect", "intents.0.target"),
        (
            NodeBridgeReducer,
            "published_topics: []",
            f"published_topics: [{topics.STATE_COMMITTED}]",
            "published_topics",
        ),
        (NodeBridgeReducer, "state_machine: null", "", "state_machine"),
        (NodeBridgeReducer, "method: process", "method: process\nmore: 1", "more"),
        (NodeBridgeStoreEffect, "to: PROCESSING", "to: FAILED", "state_machine"),
        (NodeBridgeStoreEffect, "to: PROCESSING", "to: NOWHERE", "state_machine"),
        (NodeBridgeStoreEffect, "terminal: [COMPLETED, FAILED]", "terminal: []", "state_machine"),
        (
            NodeBridgeStoreEffect,
            "from: [PROCESSING], to: COMPLETED",
            "from: ['*'], to: COMPLETED",
            "state_machine",
        ),
        (NodeBridgeStoreEffect, "initial: PENDING", "initial: FAILED", "state_machine"),
    ],
)
def test_a_contract_that_the_code_does_not_keep_names_file_and_field(
    node: type[Door], before: str, after: str, field: str
) -> None:
    text = text_of(node)
    assert before in text
    with pytest.raises(NodeContractError) as error:
        check_contract(read_contract(text.replace(before, after), "a.yaml"), node, "a.yaml")
    assert (error.value.file, error.value.field) == ("a.yaml", field)
    assert str(error.value).startswith(f"a.yaml: {field}: ")
    assert isinstance(error.value, ConfigurationError)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "not YAML that can be read"),
        (f"{REDUCER}\nname: NodeBridgeReducer", "'name' is given twice"),
        (STORE.replace("to: PROCESSING", "to: PROCESSING, to: FAILED"), "'to' is given twice"),
        ("", "valid dictionary"),
        ("!!python/object/apply:os.getcwd []", "not YAML that can be read"),
    ],
)
def test_what_is_no_contract_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(NodeContractError, match=r"^a\.yaml: ") as error:
        read_contract(text, "a.yaml")
    assert says in str(error.value)


def test_a_node_without_a_contract_is_told_its_file() -> None:
    with pytest.raises(NodeContractError) as error:
        load_node_contract(ModelReducerInput)  # type: ignore[arg-type] # it is none
    assert error.value.file == "omninode_bridge/nodes/contract.yaml"
