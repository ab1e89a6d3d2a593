"""Who may import whom: the contracts in pyproject.toml, and what they cannot say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import omninode_bridge
from tests.architecture.source import PACKAGE, REPOSITORY, modules

if TYPE_CHECKING:
    from tests.architecture.source import Module

LOOPS = [module for module in modules("services") if not module.path.with_suffix(".sql").exists()]
READS_ENVIRONMENT = {
    "infrastructure/postgres/embedded/settings.py",  # passes LD_LIBRARY_PATH on to the server
}


def test_the_contracts_in_pyproject_are_kept() -> None:
    # In a process of its own: it switches off all loggers that are there.
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(  # noqa: S603 - our own command
        [program, "--no-logo", "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", modules("core", "ports"), ids=str)
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
    ours = ["omninode_bridge.core", "omninode_bridge.ports"]
    service = module.path.relative_to(PACKAGE / "services").parent
    if service != Path():  # a service that is a folder: its modules know each other
        ours.append(f"omninode_bridge.services.{service}.")
    foreign = [
        f"line {line}: {name}"
        for line, name, _ in module.imports()
        if not (name.startswith(tuple(ours)) or name.partition(".")[0] in sys.stdlib_module_names)
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
    modules("core", "ports", "infrastructure", "services", "nodes", "testing", "host"),
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
