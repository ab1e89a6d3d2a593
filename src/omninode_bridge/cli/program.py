"""All commands under one name, and what happens to an error that none of them handles."""

from __future__ import annotations

import io
import os
import sys
from importlib.metadata import version
from typing import Annotated, Final, NoReturn

import typer

from omninode_bridge.cli import (
    bench,
    bus,
    database,
    dead_letters,
    ingest,
    looking,
    runs,
    serving,
    stamping,
)
from omninode_bridge.cli.output import say
from omninode_bridge.core.errors import BridgeError, ConfigurationError

FAILED: Final = 1
WRONG_USE: Final = 2

program = typer.Typer(
    name="omninode-bridge",
    help="Durable workflow state on PostgreSQL: once per action, in order per key.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # what we expect has words; what is broken, a plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
program.command("stamp")(stamping.stamp)
program.command("check")(stamping.check)
program.command("ingest")(ingest.ingest)
program.command("show")(looking.show)
program.command("list")(looking.list_keys)
program.command("history")(looking.history)
program.command("explain")(looking.explain)
program.command("verify")(looking.verify)
program.command("runs")(runs.runs)
program.command("repartition")(database.repartition)
program.command("bench")(bench.bench)
runs.run.callback(invoke_without_command=True)(serving.serve)
program.add_typer(runs.run, name="run")
program.add_typer(database.migrate, name="migrate")
program.add_typer(database.projection, name="projection")
program.add_typer(dead_letters.dlq, name="dlq")
program.add_typer(bus.bus, name="bus")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's calling convention
    if wanted:
        sys.stdout.write(f"omninode-bridge {version('omninode-bridge')}\n")
        raise typer.Exit


@program.callback()
def _program(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the program and end the process with its exit status."""
    _open_standard_streams()
    if _has_empty_argument(sys.argv[1:]):
        say("an argument is empty: is a variable of your shell not set?")
        sys.exit(WRONG_USE)
    try:
        program()
    except ConfigurationError as error:
        say(str(error))
        sys.exit(WRONG_USE)
    except (BridgeError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has seen enough; nothing is left to be flushed to them.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)
        say(str(error))
        sys.exit(FAILED)
    sys.exit(0)


def _open_standard_streams() -> None:
    """Have all three, where the caller has closed one; and write what they cannot spell as escapes.

    What is opened next would get the number of the closed one, and what is meant for a person.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _has_empty_argument(arguments: list[str]) -> bool:
    """Return whether an argument is empty where that means nothing: only a tag may be."""
    before = ["", *arguments]
    return any(
        (not argument and previous != "--tag")
        or (argument.startswith("--") and argument.endswith("=") and argument != "--tag=")
        for previous, argument in zip(before, arguments, strict=False)
    )
