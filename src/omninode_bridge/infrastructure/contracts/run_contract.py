"""Contracts of runs as people write them: YAML, or JSON, which is YAML.

Rule 1: whether a contract can work is the core's question; here its answer gets a file and a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.errors import ConfigurationError, ContractError
from omninode_bridge.core.orchestration import ContractFault, check_contract, parse_contract
from omninode_bridge.infrastructure.yaml_nodes import read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from omninode_bridge.core.orchestration import RunContract

    Place = tuple[str | int, ...]

TEXT_CHARS_MAX: Final = 262_144


def load_run_contract(text: str, name: str) -> RunContract:
    """Return the contract that `text` (YAML or JSON) holds; `name` is its file's, for messages.

    Raises:
        ContractError: naming the line of the first thing that is wrong.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise ContractError(name, 1, f"a contract has at most {TEXT_CHARS_MAX:,} characters")
    document, lines = read(text, name, "a contract").json()
    return _checked(document, name, lines)


def read_run_contract(file: Path) -> RunContract:
    """Return the contract in `file`.

    Raises:
        ConfigurationError: it cannot be read; ContractError: it is none that can work.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file}: cannot be read as a contract: {error}"
        raise ConfigurationError(message) from error
    return load_run_contract(text, str(file))


def run_contract_of(document: Mapping[str, Any]) -> RunContract:
    """Return the contract that a JSON document describes.

    Raises:
        ContractError: naming the place of the first thing that is wrong.
    """
    return _checked(document, "a contract", {})


def _checked(
    document: object, name: str, lines: Mapping[tuple[str | int, ...], int]
) -> RunContract:
    try:
        contract = parse_contract(document)
        check_contract(contract)
    except ContractFault as fault:
        path = fault.path
        while path and path not in lines:
            path = path[:-1]
        detail = fault.detail if lines else str(fault)
        raise ContractError(name, lines.get(path, 1), detail) from fault
    return contract
