"""The shape of a node's `contract.yaml`, and how it is read: strictly, each field once."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from omninode_bridge.core.machine import Machine, machine_of
from omninode_bridge.infrastructure.contracts.errors import NodeContractError

Text = Annotated[str, Field(min_length=1)]

# LibYAML's loader is a tenth of the price of Python's; not every build of PyYAML has it.
_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class ContractIntent(_Part):
    """An intent that the node returns, whom it is for, and the topic that leads there."""

    intent_type: Text
    target: Text
    topic: Text


class ContractTransition(_Part):
    """`trigger` leads from each state of `sources` to `target`; in the file `from` and `to`."""

    trigger: Text
    sources: Annotated[list[Text], Field(alias="from", min_length=1)]
    target: Annotated[Text, Field(alias="to")]


class ContractMachine(_Part):
    """A state machine. `terminal` names the states that nothing leads out of: exactly those."""

    name: Text
    version: Annotated[int, Field(ge=1)]
    initial: Text
    states: Annotated[list[Text], Field(min_length=1)]
    terminal: list[Text]
    transitions: Annotated[list[ContractTransition], Field(min_length=1)]

    @cached_property
    def machine(self) -> Machine:
        """The machine, as the core has them; ValueError when it contradicts itself."""
        return machine_of(
            {
                "name": self.name,
                "version": self.version,
                "initial": self.initial,
                "states": self.states,
                "transitions": [each.model_dump(by_alias=True) for each in self.transitions],
            }
        )

    @model_validator(mode="after")
    def _ends_where_it_says(self) -> ContractMachine:
        actual = self.machine.table.terminal()
        if sorted(actual) != sorted(self.terminal):
            message = f"terminal must be {list(actual)}: nothing leads out of those, and no others"
            raise ValueError(message)
        return self


class NodeContract(_Part):
    """What a node is, what goes in and out, and whom it hears and tells."""

    name: Text
    node_type: Literal["orchestrator", "reducer", "effect", "compute"]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    description: Text
    method: Text
    input_model: Text
    output_models: Annotated[list[Text], Field(min_length=1)]
    subscribed_topics: list[Text]
    published_topics: list[Text]
    intents: list[ContractIntent]
    state_machine: ContractMachine | None


def read_contract(text: str, file: str) -> NodeContract:
    """Return the contract that `text` holds; `file` is for messages.

    Raises:
        NodeContractError: naming the field that is wrong.
    """
    try:
        document = yaml.load(text, Loader=_OnceLoader)  # noqa: S506 - a subclass of the safe one
    except yaml.YAMLError as error:
        raise NodeContractError(file, "", f"not YAML that can be read: {error}") from error
    try:
        return NodeContract.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise NodeContractError(file, place, first["msg"]) from error


class _OnceLoader(_Loader):  # type: ignore[misc] # which of the two it is shows at run time
    """Refuses a field that is given twice: YAML would take the last one and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice!r} is given twice: keep one of them", node.start_mark
            )
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found
