"""How a command runs: on a fast loop, ended cleanly by a signal, with the database it was told.

The options that all commands share are declared here, once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
import uvloop

from omninode_bridge import (
    AnotherAppServes,
    App,
    Bridge,
    ConfigurationError,
    DatabaseUnavailable,
    LoopStumbled,
    Observation,
    StoreEffectSilent,
    default_data_dir,
)
from omninode_bridge.cli.output import say
from omninode_bridge.core.observation import Observe, ignore
from omninode_bridge.core.roles import ROLES
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from omninode_bridge.settings import check_database_url, read_kafka, read_redis_url, read_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from omninode_bridge import KafkaPlace
    from omninode_bridge.app.outside_bus import Persist
    from omninode_bridge.core.roles import Role

_T = TypeVar("_T")

INTERRUPTED: Final = 130
SAY_AWAY_EVERY_S: Final = 10.0
NOTHING: Final = App("looking")
COLLECT_AFTER: Final = 50_000
"""Objects made before the collector looks for cycles: we make many objects and hardly a cycle."""

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The folder of the embedded database (default: OMNINODE_DATA_DIR, or yours).",
        show_default=False,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="A PostgreSQL server instead (default: OMNINODE_DATABASE_URL).",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


class Outage:
    """Tells a person that the database is away, now and then for as long as it is."""

    def __init__(self) -> None:
        """Have told nothing yet."""
        self._quiet_until = 0.0

    def observe(self, observation: Observation) -> None:
        """Say it when a loop waits for the database, but not for each loop and attempt."""
        match observation:
            case LoopStumbled(error=StoreEffectSilent()) if time.monotonic() >= self._quiet_until:
                say("no store effect answers: waiting for one (run --role store-effect)")
                self._quiet_until = time.monotonic() + SAY_AWAY_EVERY_S
            case LoopStumbled(error=DatabaseUnavailable()) if time.monotonic() >= self._quiet_until:
                say("the database is away: waiting for it")
                self._quiet_until = time.monotonic() + SAY_AWAY_EVERY_S
            case AnotherAppServes(name):
                say(f"{name} came first, with another application: waiting for its end")
            case _:
                pass


@dataclass(frozen=True, slots=True)
class Place:
    """Where the database is: an embedded one in `data_dir`, or a server at `database_url`.

    Without `pure_reducer`, what is written there takes the direct path. `kafka` tells which bus
    what is written there goes to: where nothing else is said, the environment does.
    """

    data_dir: Path | None
    database_url: str | None
    pure_reducer: bool
    kafka: Callable[[], KafkaPlace | None] = read_kafka

    def server(self) -> EmbeddedServer | None:
        """Return the embedded server; None for a server of somebody else's."""
        return None if self.data_dir is None else EmbeddedServer(self.data_dir)

    def is_new(self) -> bool:
        """Return whether there is no database yet."""
        server = self.server()
        return server is not None and server.is_new()

    def require_used(self) -> None:
        """Refuse to look into a data folder that nobody has written to: it is a slip of the pen.

        Raises:
            ConfigurationError: naming the folder.
        """
        if self.is_new():
            message = (
                f"there is no database in {self.data_dir} yet. Name the folder that was written to"
                " with --data-dir, or stamp or ingest something first."
            )
            raise ConfigurationError(message)

    @asynccontextmanager
    async def reading(self, app: App = NOTHING) -> AsyncIterator[Bridge]:
        """Open a bridge that looks, beside whoever writes; most looks need no reducer."""
        self.require_used()
        async with Bridge.open(
            app, data_dir=self.data_dir, database_url=self.database_url, writing=False
        ) as bridge:
            yield bridge

    @asynccontextmanager
    async def writing(
        self,
        app: App,
        observe: Observe = ignore,
        *,
        roles: Iterable[Role] = ROLES,
        persist: Persist = "direct",
    ) -> AsyncIterator[Bridge]:
        """Open a bridge that writes; wait for who has the data folder alone, and say so.

        `observe` is told the facts from the first one on. The process does what `roles` name, and
        has commits made durable as `persist` says.
        """
        outage = Outage()

        def told(observation: Observation) -> None:
            outage.observe(observation)
            observe(observation)

        async with Bridge.open(
            app,
            data_dir=self.data_dir,
            database_url=self.database_url,
            redis_url=read_redis_url(),
            kafka=self.kafka(),
            observe=told,
            on_wait=self.say_waiting,
            pure_reducer=self.pure_reducer,
            roles=roles,
            persist=persist,
        ) as bridge:
            yield bridge

    def say_waiting(self) -> None:
        """Tell whom we wait for."""
        server = self.server()
        writer = None if server is None else server.writer()
        who = "another command" if writer is None else f"another command (process {writer})"
        say(f"{who} is writing to {self.data_dir}: waiting until it has finished")


def find_place(data_dir: Path | None, database_url: str | None) -> Place:
    """Return the place that the options name, or else the environment, or else this user's own.

    Raises:
        ConfigurationError: two places are named at once, or the environment says what cannot work.
    """
    settings = read_settings()
    source = "--data-dir or --database-url"
    if data_dir is None and database_url is None:
        data_dir, database_url = settings.data_dir, settings.database_url
        source = "OMNINODE_DATA_DIR or OMNINODE_DATABASE_URL"
    if data_dir is not None and database_url is not None:
        message = f"give {source}, not both: which database is meant?"
        raise ConfigurationError(message)
    if database_url is None:
        data_dir = data_dir or default_data_dir()
    else:
        try:
            check_database_url(database_url)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    return Place(data_dir, database_url, settings.enable_pure_reducer)


def run(work: Coroutine[object, object, _T]) -> _T:
    """Run a command's work to its end. SIGINT and SIGTERM end it cleanly: the bridge closes.

    Raises:
        typer.Exit: a signal ended it.
    """
    # In an outage asyncpg's pool logs a traceback at each attempt to connect again. We say in words
    # that we wait, and what it cannot get over reaches us as an exception.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_until_told_to_end(work))
    except KeyboardInterrupt:
        say("interrupted; what was committed stays, and the next run goes on from there")
        raise typer.Exit(INTERRUPTED) from None


async def _until_told_to_end(work: Coroutine[object, object, _T]) -> _T:
    # SIGINT is the runner's own: it cancels this task, as we do here.
    task = asyncio.current_task()
    assert task is not None
    ended = False

    def end() -> None:
        nonlocal ended
        ended = True
        task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await work
    except asyncio.CancelledError:
        if ended:
            raise KeyboardInterrupt from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
