"""What an App declares of runs: contracts by name, and a key type that is always there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from omninode_bridge import App, ConfigurationError, ContractError
from omninode_bridge.core.orchestration import RUN
from omninode_bridge.core.our_key_types import OUR_KEY_TYPES

if TYPE_CHECKING:
    from pathlib import Path


def document(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - as a contract has it
    """Return a contract of one step."""
    steps = [{"name": "a", "action": {"key": "k:1", "type": "T"}}]
    return {"name": "one", "version": 1, "steps": steps} | fields


def test_every_bridge_knows_runs_and_fences_them() -> None:
    assert OUR_KEY_TYPES["run"] is RUN
    assert RUN.fenced


def test_nobody_else_may_reduce_runs() -> None:
    with pytest.raises(ConfigurationError, match=r"keys run:\.\.\. are the bridge's own"):
        App("greedy").reducer("run")


def test_a_workflow_is_declared_by_file_by_document_or_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("name: one\nversion: 1\nsteps: [{name: a, action: {key: 'k:1', type: T}}]\n")
    app = App("app")
    contract = app.workflow(document())
    for given in (file, str(file), contract, document()):
        assert app.workflow(given) == contract
    assert app.workflows() == {"one": contract}
    with pytest.raises(ConfigurationError, match="declared twice, with other content"):
        app.workflow(document(version=2))
    with pytest.raises(ContractError):
        app.workflow(document(version=0))


def test_an_app_takes_over_the_workflows_of_another() -> None:
    one, other = App("one"), App("other")
    contract = one.workflow(document())
    other.include(one)
    assert other.workflows() == {"one": contract}
    third = App("third")
    third.workflow(document(version=2))
    with pytest.raises(ConfigurationError, match="declared twice"):
        third.include(one)
