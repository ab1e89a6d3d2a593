"""A node's contract against its code: every name in the file is looked for where it leads.

The code is asked, not a list of names: the class, its method, what the method's annotations name,
and the constants that the class works with.
"""

from __future__ import annotations

import inspect
import types
import typing
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from omninode_bridge.core.topics import TOPICS
from omninode_bridge.infrastructure.contracts.errors import NodeContractError
from omninode_bridge.infrastructure.contracts.node_contract import NodeContract, read_contract

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omninode_bridge.core.machine import Machine

FILE = "contract.yaml"


class Door(Protocol):
    """What a node's class says of itself: no base class, only these three constants.

    `published` are the topics it publishes on, `intents` the types of those it returns of its own,
    `machine` the state machine that it works by. One that reads topics names them as `subscribed`.
    """

    published: typing.ClassVar[tuple[str, ...]]
    intents: typing.ClassVar[tuple[str, ...]]
    machine: typing.ClassVar[Machine | None]


def load_node_contract(node: type[Door]) -> NodeContract:
    """Return the contract that lies beside the module of `node`, checked against its code.

    Raises:
        NodeContractError: the file cannot be read, or says something that the code does not do.
    """
    package = node.__module__.rpartition(".")[0]
    file = f"{package.replace('.', '/')}/{FILE}"
    try:
        text = (files(package) / FILE).read_text(encoding="utf-8")
    except OSError as error:
        raise NodeContractError(file, "", f"cannot be read: {error}") from error
    contract = read_contract(text, file)
    check_contract(contract, node, file)
    return contract


def check_contract(contract: NodeContract, node: type[Door], file: str) -> None:
    """Pass when `node` does what `contract` says.

    Raises:
        NodeContractError: for the first field that it does not.
    """

    def require(field: str, said: object, actual: object) -> None:
        if said != actual:
            raise NodeContractError(file, field, f"says {said!r}, and the code says {actual!r}")

    require("name", contract.name, node.__name__)
    folder = node.__module__.split(".")[-2]
    require("version", f"v{contract.version.replace('.', '_')}", folder)
    method = getattr(node, contract.method, None)
    if not inspect.iscoroutinefunction(method):
        raise NodeContractError(file, "method", f"the code has no async {contract.method!r}")
    taken, returned = _models(method)
    require("input_model", [contract.input_model], taken)
    require("output_models", sorted(contract.output_models), returned)
    _require_known(file, "subscribed_topics", contract.subscribed_topics)
    _require_known(file, "published_topics", contract.published_topics)
    _require_known(file, "intents", (intent.topic for intent in contract.intents))
    require(
        "subscribed_topics",
        sorted(contract.subscribed_topics),
        sorted(getattr(node, "subscribed", ())),  # most are called, and read no topic
    )
    require("published_topics", sorted(contract.published_topics), sorted(node.published))
    intents = sorted(intent.intent_type for intent in contract.intents)
    require("intents", intents, sorted(node.intents))
    machine = contract.state_machine and contract.state_machine.machine
    require("state_machine", machine, node.machine)


def _require_known(file: str, field: str, topics: Iterable[str]) -> None:
    for topic in topics:
        if topic not in TOPICS:
            known = ", ".join(sorted(TOPICS))
            raise NodeContractError(file, field, f"there is no topic {topic!r}; known are {known}")


def _models(method: Any) -> tuple[list[str], list[str]]:  # noqa: ANN401 - any method
    """Return the names of the types that go in and come out, by the method's annotations."""
    hints = typing.get_type_hints(method)
    returned = hints.pop("return")
    is_union = typing.get_origin(returned) in (typing.Union, types.UnionType)
    members = typing.get_args(returned) if is_union else (returned,)
    return [_name(each) for each in hints.values()], sorted(_name(each) for each in members)


def _name(found: type) -> str:
    return f"{found.__module__}.{found.__qualname__}"
