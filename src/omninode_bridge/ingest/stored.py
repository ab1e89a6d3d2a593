"""Contracts in the database: `verify`, `show` and rebuilds need no file.

A contract is the key `contract:<name>`; all its versions stay, since history is folded again with
the version that made it. The newest reduces new rows, so none is ingested with an older one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omninode_bridge import Action, App, Projection, ReducerGaveUp, Rejection, Transition
from omninode_bridge.ingest.contract import restore_contract
from omninode_bridge.ingest.reducer import projection_of, reducer_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from omninode_bridge import Bridge
    from omninode_bridge.ingest.contract import Contract

KEY_TYPE: Final = "contract"
NAMESPACE: Final = "contracts"
STORED: Final = "ContractStored"
PAGE_ROWS: Final = 100
STORE_TIMEOUT_S: Final = 60.0

contracts = App("contracts")


@contracts.reducer(KEY_TYPE)
def _keep(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Keep each version once: rows have been reduced by it."""
    if action.type != STORED:
        return Rejection(f"a contract is stored with {STORED}, not {action.type}")
    name, version = action.payload["name"], str(action.payload["version"])
    versions = state.get("versions", {})
    if versions.setdefault(version, action.payload) != action.payload:
        return Rejection(_raise_its_version(name, version))
    return Transition({"name": name, "versions": versions})


@contracts.projection(KEY_TYPE)
def _view(
    key: str,  # noqa: ARG001 - the signature every projection has
    state: dict[str, Any],
    action_type: str,  # noqa: ARG001
    committed_at: datetime,  # noqa: ARG001
) -> Projection:
    """Show the newest version as the tag."""
    return Projection(tag=str(max(map(int, state["versions"]))), namespace=NAMESPACE)


def app_of(given: Iterable[Contract]) -> App:
    """Return the application of `given` contracts, and of the contracts themselves.

    Each is a reducer of its key type in its version; the newest of a type brings the projection.
    A contract may be given twice.

    Raises:
        ContractError: two contracts of one name and version differ, or two of different names want
            the same keys.
    """
    chosen: dict[tuple[str, int], Contract] = {}
    newest: dict[str, Contract] = {}
    for contract in given:
        other = chosen.setdefault((contract.name, contract.version), contract)
        if other != contract:
            raise contract.error("version", _raise_its_version(contract.name, contract.version))
        rival = newest.setdefault(contract.key_type, contract)
        if rival.name != contract.name:
            raise contract.error(
                "key",
                f"keys {contract.key_type}:... belong to the contract {rival.name!r}:"
                " choose another type of keys, or its name with a new version",
            )
        if contract.version > rival.version:
            newest[contract.key_type] = contract
    app = App("ingest")
    app.include(contracts)
    for contract in chosen.values():
        app.reducer(contract.key_type, version=contract.version)(reducer_of(contract))
    for contract in newest.values():
        app.projection(contract.key_type)(projection_of(contract))
    return app


async def stored_app(bridge: Bridge) -> App:
    """Return the application of all contracts stored in the database of `bridge`."""
    return app_of(await stored_contracts(bridge))


async def stored_contracts(bridge: Bridge) -> list[Contract]:
    """Return all stored contracts by name and version; any bridge will do, a reading one too."""
    found: list[Contract] = []
    after: str | None = None
    while page := await bridge.list(namespace=NAMESPACE, after=after, limit=PAGE_ROWS):
        after = page[-1].workflow_key
        for row in page:
            # A user's namespace may be called the same.
            if not row.workflow_key.startswith(f"{KEY_TYPE}:"):
                continue
            stored = await bridge.state(row.workflow_key)
            assert stored is not None, "a projection without a state"
            versions: Mapping[str, Any] = stored.state["versions"]
            for version in sorted(versions, key=int):
                place = f"{row.workflow_key} version {version}"
                found.append(restore_contract(versions[version], place))
    return found


async def store(bridge: Bridge, contract: Contract) -> None:
    """Make `contract` durable, and visible to `stored_contracts`, before any row of it.

    Raises:
        ContractError: it cannot stand beside the stored ones, or a newer version of it is stored.
        GaveUp: who owns the partition does not know of contracts.
    """
    stored = await stored_contracts(bridge)
    app_of([*stored, contract])
    newest = max((each.version for each in stored if each.name == contract.name), default=0)
    if newest > contract.version:
        raise contract.error(
            "version",
            f"version {newest} is stored already; new rows are reduced by it: ingest with that"
            " contract, or raise the version",
        )
    if contract in stored:
        return
    key = f"{KEY_TYPE}:{contract.name}"
    # Not under an id made of its content: storing it twice does no harm, and should it be given up
    # because of who owns the partition now, that must not be remembered.
    outcome = await bridge.submit(key, STORED, contract.as_dict(), timeout=STORE_TIMEOUT_S)
    if isinstance(outcome, ReducerGaveUp) and outcome.reason == "rejected":
        raise contract.error("version", outcome.detail)
    outcome = outcome.committed()
    # Now, so that rows of a contract are never there without it, whenever we are killed.
    await bridge.read(key, required_version=outcome.version, max_wait_ms=STORE_TIMEOUT_S * 1_000)


def _raise_its_version(name: str, version: object) -> str:
    return (
        f"version {version} of the contract {name!r} is stored with another content, and rows may"
        " have been reduced by it: raise 'version'"
    )
