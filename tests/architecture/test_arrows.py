"""Who may import whom: the contracts in pyproject.toml, and what they cannot say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

import omninode_bridge
from tests.architecture.source import REPOSITORY, modules

if TYPE_CHECKING:
    from tests.architecture.source import Module

LOOPS = [module for module in modules("services") if not module.path.with_suffix(".sql").exists()]
READS_ENVIRONMENT = {
    "infrastructure/postgres/embedded/settings.py",  # passes LD_LIBRARY_PATH on to the server
}


def test_the_contracts_in_pyproject_are_kept() -> None:
    config = str(REPOSITORY / "pyproject.toml")
    assert lint_imports(config_filename=config, no_cache=True) == EXIT_STATUS_SUCCESS


@pytest.mark.parametrize("module", modules("core", "ports.py"), ids=str)
def test_core_and_ports_import_only_the_standard_library(module: Module) -> None:
    allowed = sys.stdlib_module_names | {"omninode_bridge"}
    foreign = [
        f"line {line}: {name}"
        for line, name, _ in module.imports()
        if name.partition(".")[0] not in allowed
    ]
    assert foreign == []


@pytest.mark.parametrize("module", LOOPS, ids=str)
def test_a_service_without_sql_is_a_loop_and_knows_only_ports_and_core(module: Module) -> None:
    ours = ("omninode_bridge.core", "omninode_bridge.ports")
    foreign = [
        f"line {line}: {name}"
        for line, name, _ in module.imports()
        if not (name.startswith(ours) or name.partition(".")[0] in sys.stdlib_module_names)
    ]
    assert foreign == []


@pytest.mark.parametrize("application", ["stamping", "ingest"])
def test_an_application_uses_the_public_names_only(application: str) -> None:
    own = f"omninode_bridge.{application}"
    foreign = [
        f"{module}, line {line}: {name or source}"
        for module in modules(application)
        for line, source, name in module.imports()
        if source.partition(".")[0] == "omninode_bridge"
        and source != own
        and not source.startswith(f"{own}.")
        and not (source == "omninode_bridge" and name in omninode_bridge.__all__)
    ]
    assert foreign == []


@pytest.mark.parametrize(
    "module",
    modules("core", "ports.py", "infrastructure", "services", "nodes", "testing", "host"),
    ids=str,
)
def test_nothing_below_app_reads_the_environment(module: Module) -> None:
    read = [
        f"line {line}: {name}"
        for line, name in module.dotted_names()
        if name in {"os.environ", "os.environb", "os.getenv", "os.getenvb"}
    ] + [
        f"line {line}: {source}.{name}"
        for line, source, name in module.imports()
        if source == "os" and name in {"environ", "environb", "getenv", "getenvb"}
    ]
    assert read == [] or str(module) in READS_ENVIRONMENT
