"""The command that serves an application until it is told to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from omninode_bridge import FollowingChanged, OwnershipChanged
from omninode_bridge.app.outside_bus import Persist  # noqa: TC001 - typer looks at it
from omninode_bridge.cli import output
from omninode_bridge.cli.apps import load
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place
from omninode_bridge.cli.running import run as run_work
from omninode_bridge.core.roles import ALL, FOLLOWING, NEED_BUS, ROLES, read_roles
from omninode_bridge.settings import read_kafka

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omninode_bridge import App, Observation
    from omninode_bridge.cli.running import Place
    from omninode_bridge.core.roles import Role

TOGETHER_S = 0.2
"""Changes that come within this time are told in one line."""


class Served:
    """What is done here, told to a person whenever that has changed."""

    def __init__(self, roles: frozenset[Role], *, as_json: bool) -> None:
        """Begin with nothing."""
        self._roles = roles
        self._as_json = as_json
        self._owned: set[int] = set()
        self._followed: dict[str, set[int]] = {}
        self._changed = asyncio.Event()

    def observe(self, observation: Observation) -> None:
        """Keep what changes."""
        match observation:
            case OwnershipChanged(partition, "taken"):
                self._owned.add(partition)
            case OwnershipChanged(partition):
                self._owned.discard(partition)
            case FollowingChanged(partition, role, "begun"):
                self._followed.setdefault(role, set()).add(partition)
            case FollowingChanged(partition, role):
                self._followed[role].discard(partition)
            case _:
                return
        self._changed.set()

    async def tell(self, app: App) -> None:
        """Say that we are ready, then what changes, until cancelled."""
        told = self._now()
        if self._as_json:
            roles = sorted(self._roles)
            output.print_json(
                {"ready": app.name, "partitions": sorted(self._owned), "roles": roles}
            )
            output.flush()
        else:
            output.say(f"{app.name} is served; {told}")
        while True:
            await self._changed.wait()
            await asyncio.sleep(TOGETHER_S)
            self._changed.clear()
            if self._now() != told:
                told = self._now()
                output.say(told)

    def _now(self) -> str:
        """Return what is done here in words: our partitions, and what we do of others'."""
        said = [f"partitions here: {_numbers(self._owned)}"] if "reducer" in self._roles else []
        apart = (*FOLLOWING, "store-effect")
        followed = {role: self._followed.get(role, set()) for role in apart}
        said += [
            f"{role} of {_numbers(partitions)}"
            for role, partitions in followed.items()
            if partitions or (role in FOLLOWING and self._is_here(role))
        ]
        return "; ".join(said)

    def _is_here(self, role: str) -> bool:
        return role in self._roles and "reducer" not in self._roles


def serve(
    context: typer.Context,
    app: Annotated[
        str | None, typer.Option("--app", metavar="MODULE:OBJECT", help="The App to serve.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="ROLE[,ROLE]...",
            help=f"Do some of the roles (default: all): {', '.join(ROLES)}.",
        ),
    ] = None,
    persist: Annotated[
        Persist | None,
        typer.Option(
            "--persist",
            help="Commit here (direct, the default), or send what is folded by Kafka to a process"
            " with the role store-effect (over-bus).",
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Serve an application until SIGTERM or SIGINT; or, with `show ID`, look at one run.

    Started several times on one server, the processes share its partitions. With --role they share
    the work: what the owner of a partition does not do is done by a process that has the role.
    """
    if context.invoked_subcommand is not None:
        if (app, role, persist, data_dir, database_url, as_json) != (*[None] * 5, False):
            message = f"options belong behind `{context.invoked_subcommand}`"
            raise typer.BadParameter(message)
        return
    if app is None:
        message = "say which application to serve: --app module:object"
        raise typer.BadParameter(message)
    roles = _roles(role)
    place, served = find_place(data_dir, database_url), Served(roles, as_json=as_json)
    run_work(_serve(place, load(app), served, roles, persist or "direct"))


async def _serve(
    place: Place, app: App, served: Served, roles: frozenset[Role], persist: Persist
) -> None:
    async with place.writing(app, served.observe, roles=roles, persist=persist):
        await served.tell(app)


def _roles(said: list[str] | None) -> frozenset[Role]:
    if said is None:
        return ALL
    names = [name.strip() for each in said for name in each.split(",")]
    try:
        roles = read_roles(names)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if roles <= NEED_BUS and read_kafka() is None:
        message = f"{' and '.join(sorted(roles))}: nothing to do without OMNINODE_KAFKA_BOOTSTRAP"
        raise typer.BadParameter(message)
    return roles


def _numbers(partitions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(partitions))) or "none"
