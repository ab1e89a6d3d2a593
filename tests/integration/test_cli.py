"""The program, command by command, on one small database that was stamped once."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from tests.programs import PROGRAM, WAIT_S, Program, run
from tests.servers import make_server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIGRATIONS: Final = [migration.name for migration in migrations.known_migrations()]
FILES: Final = {"a.txt": "one\n", "b.txt": "two\n", "deep/er/c.json": "{}\n", "empty": ""}


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files below `folder`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def statement(program: Program, text: str) -> None:
    """Run a statement of the test's own on the database of `program`."""

    async def execute() -> None:
        async with EmbeddedServer(program.data_dir).use() as address:
            connection = await asyncpg.connect(**address.connect_arguments)
            await connection.execute(text)
            await connection.close()

    asyncio.run(execute())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Yield a folder that the server's account can reach; gone after the module's tests."""
    with make_server_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def program(folder: Path) -> Iterator[Program]:
    """Yield the program on a database with four stamped files. Tests only look at it."""
    write(folder / "tree", FILES)
    program = Program(folder / "data")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        # A user who stays, so that the server does not start and stop with each command.
        using = EmbeddedServer(program.data_dir).use()
        runner.run(using.__aenter__())
        program.run("stamp", folder / "tree", "--namespace", "demo")
        yield program
        runner.run(using.__aexit__(None, None, None))


def test_show_has_the_promised_fields(program: Program) -> None:
    found = program.json("show", "namespace:demo").object()
    assert set(found) == {
        *("workflow_key", "version", "state", "schema_version", "updated_at", "provenance"),
    }
    assert found["workflow_key"] == "namespace:demo"
    assert found["version"] == len(FILES)
    assert found["state"]["files"] == len(FILES)
    assert set(found["provenance"]) == {
        *("effect_id", "timestamp", "action_id", "action_type"),
        *("epoch", "lease_id", "correlation_id", "chain"),
    }


def test_show_tells_people_the_state(program: Program) -> None:
    assert "state.total_size_bytes" in program.run("show", "namespace:demo").out.decode()


def test_show_of_a_key_never_seen_fails(program: Program) -> None:
    done = program.json("show", "namespace:nobody", status=1)
    assert done.out == b""
    assert "nothing was ever committed on namespace:nobody" in done.words


def test_list_is_in_order_with_the_columns_of_the_projection(program: Program) -> None:
    rows = program.json("list", "--namespace", "demo", "--tag", "stamped").objects()
    assert [row["workflow_key"] for row in rows] == [f"file:demo/{name}" for name in sorted(FILES)]
    assert all(
        set(row)
        == {
            *("workflow_key", "version", "tag", "last_action"),
            *("namespace", "updated_at", "indices", "extras"),
        }
        for row in rows
    )


def test_list_goes_page_by_page(program: Program) -> None:
    first = program.json("list", "--limit", "2").objects()
    rest = program.json("list", "--after", first[-1]["workflow_key"]).objects()
    everything = program.json("list").objects()
    assert first + rest == everything
    assert len(everything) == len(FILES) + 1
    assert program.json("list", "--namespace", "other").out == b""


def test_list_tells_people_how_many(program: Program) -> None:
    done = program.run("list", "--namespace", "demo", "--tag", "stamped")
    assert "file:demo/deep/er/c.json" in done.out.decode()
    assert "4 keys" in done.words


def test_history_is_every_version_from_the_first(program: Program) -> None:
    versions = program.json("history", "namespace:demo").objects()
    assert [each["version"] for each in versions] == [1, 2, 3, 4]
    assert all(
        set(each) == {"version", "action", "result_hash", "chain", "committed_at"}
        for each in versions
    )
    assert "TotalsChanged" in program.run("history", "namespace:demo").out.decode()
    assert program.json("history", "file:demo/none", status=1).out == b""


def test_explain_tells_outcome_version_and_intents(program: Program) -> None:
    (version,) = program.json("history", "file:demo/a.txt").objects()
    action_id = version["action"]["action_id"]
    (found,) = program.json("explain", action_id).objects()
    assert found["outcome"] == "StateCommitted"
    assert (found["workflow_key"], found["version"]) == ("file:demo/a.txt", 1)
    assert [intent["target"] for intent in found["intents"]] == ["namespace:demo"]
    assert "StateCommitted" in program.run("explain", action_id).out.decode()


def test_explain_of_an_unknown_id_fails(program: Program) -> None:
    assert program.json("explain", "8d5ff0cb-6f1c-4f6c-9d2f-0f5b3d5e8a01", status=1).out == b""
    assert "UUID" in program.run("explain", "nonsense", status=2).words


def test_verify_counts_and_finds_nothing(program: Program) -> None:
    found = program.json("verify").object()
    assert found == {"keys": 5, "actions": 8, "mismatches": []}
    assert "verified" in program.run("verify").out.decode()


def test_a_rebuilt_projection_lists_the_same(program: Program) -> None:
    before = program.json("list").objects()
    assert program.json("projection", "rebuild").object() == {"rows": 5}
    assert program.json("list").objects() == before


def test_migrate_status_lists_all_as_applied(program: Program) -> None:
    rows = program.json("migrate", "status").objects()
    assert [row["migration"] for row in rows] == MIGRATIONS
    assert all(row["applied"] for row in rows)
    assert program.json("migrate", "up").object() == {"applied": []}


def test_migrate_down_keeps_rows_unless_told_to_drop_them(server_folder: Path) -> None:
    write(server_folder / "tree", FILES)
    program = Program(server_folder / "data")
    program.run("stamp", server_folder / "tree", "--namespace", "demo")
    undone = MIGRATIONS[MIGRATIONS.index("009_event_log") :]
    steps = ("--steps", str(len(undone)))
    refused = program.run("migrate", "down", *steps, status=2)
    assert "--drop-data" in refused.words
    assert program.json("migrate", "down", *steps, "--drop-data").object() == {
        "undone": undone[::-1]
    }
    assert [row["applied"] for row in program.json("migrate", "status").objects()] == [
        name not in undone for name in MIGRATIONS
    ]
    assert program.json("migrate", "up").object() == {"applied": undone}


def test_verify_of_a_tampered_state_fails(server_folder: Path) -> None:
    write(server_folder / "tree", FILES)
    program = Program(server_folder / "data")
    program.run("stamp", server_folder / "tree", "--namespace", "demo")
    statement(
        program,
        "UPDATE workflow_state SET state = jsonb_set(state, '{files}', '5')"
        " WHERE workflow_key = 'namespace:demo'",
    )
    found = program.json("verify", status=1).object()
    assert {each["workflow_key"] for each in found["mismatches"]} == {"namespace:demo"}
    assert set(found["mismatches"][0]) == {
        *("workflow_key", "version", "what", "expected", "actual"),
    }
    assert "namespace:demo" in program.run("verify", status=1).out.decode()


def test_a_reducer_that_is_not_here_is_named_and_can_be_brought(
    server_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "own_app.py").write_text(
        "from omninode_bridge import App, Transition\n"
        "app = App('own')\n"
        "@app.reducer('own')\n"
        "def reduce(state, action):\n"
        "    return Transition({'n': state.get('n', 0) + 1})\n",
        encoding="utf-8",
    )
    (tmp_path / "use_it.py").write_text(
        "import asyncio, sys\n"
        "from own_app import app\n"
        "from omninode_bridge import Bridge\n"
        "async def main():\n"
        "    async with Bridge.open(app, data_dir=sys.argv[1]) as bridge:\n"
        "        (await bridge.submit('own:1', 'Counted', {})).committed()\n"
        "asyncio.run(main())\n",
        encoding="utf-8",
    )
    used = run(sys.executable, tmp_path / "use_it.py", server_folder / "data")
    assert used.status == 0, used.words
    program = Program(server_folder / "data")
    without = program.json("verify")
    assert without.object() == {"keys": 1, "actions": 1, "mismatches": []}
    assert "own@1 is not registered" in without.words
    brought = run(
        *program.command("verify", "--app", "own_app:app"), PYTHONPATH=os.fspath(tmp_path)
    )
    assert brought.status == 0
    assert "not registered" not in brought.words


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("nonsense", "module:object"),
        ("no_such_module:app", "cannot be imported"),
        ("json:loads", "not an App"),
        ("json:nothing", "not an App"),
    ],
)
def test_an_app_that_is_none_is_wrong_use(program: Program, named: str, words: str) -> None:
    assert words in program.run("verify", "--app", named, status=2).words


# -- where the database is -------------------------------------------------------------------------


def test_looking_into_a_folder_without_a_database_makes_none(tmp_path: Path) -> None:
    for command in (["list"], ["show", "a:b"], ["verify"], ["migrate", "status"]):
        done = Program(tmp_path / "typo").run(*command, status=2)
        assert "there is no database in" in done.words
    assert not (tmp_path / "typo").exists()


def test_two_places_at_once_are_wrong_use(program: Program) -> None:
    done = program.run("list", "--database-url", "postgresql://there/db", status=2)
    assert "not both" in done.words


def test_the_environment_names_the_place_unless_an_option_does(program: Program) -> None:
    named = run(PROGRAM, "list", "--json", OMNINODE_DATA_DIR=str(program.data_dir))
    assert named.out == program.json("list").out
    over = run(*program.command("list", "--json"), OMNINODE_DATABASE_URL="postgresql://there/db")
    assert over.out == named.out
    both = run(
        *(PROGRAM, "list"),
        OMNINODE_DATA_DIR=str(program.data_dir),
        OMNINODE_DATABASE_URL="postgresql://there/db",
    )
    assert both.status == 2


def test_a_server_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    url = f"postgresql://me@/db?host={tmp_path}"
    done = run(PROGRAM, "list", "--database-url", url)
    assert done.status == 1
    assert done.words.startswith("omninode-bridge: ")
    assert "Traceback" not in done.words


def test_commands_work_on_a_server_of_ones_own(database_url: str, tmp_path: Path) -> None:
    write(tmp_path, FILES)
    place = ("--database-url", database_url, "--json")
    stamped = run(PROGRAM, "stamp", tmp_path, "--namespace", "demo", *place)
    assert stamped.object()["new"] == len(FILES)
    assert run(PROGRAM, "show", "namespace:demo", *place).object()["state"]["files"] == 4
    assert len(run(PROGRAM, "migrate", "status", *place).objects()) == len(MIGRATIONS)


def test_a_database_without_tables_is_told_how_to_get_them(database: dict[str, Any]) -> None:
    url = "postgresql://{user}@/{database}?host={host}&port={port}".format(**database)
    done = run(PROGRAM, "list", "--database-url", url)
    assert done.status == 2
    assert "migrate up" in done.words
    assert run(PROGRAM, "migrate", "up", "--database-url", url).status == 0
    assert run(PROGRAM, "list", "--database-url", url).status == 0


# -- beside others, and in the middle --------------------------------------------------------------


async def test_readers_work_beside_a_writer_and_a_second_writer_waits(program: Program) -> None:
    tree = program.data_dir.parent / "tree"
    command = program.command("stamp", tree, "--namespace", "demo", "--json")
    async with EmbeddedServer(program.data_dir).writing():
        assert (await asyncio.to_thread(program.json, "list")).objects()
        waiting = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert waiting.stderr is not None
        async with asyncio.timeout(WAIT_S):
            words = (await waiting.stderr.readline()).decode()
        assert f"process {os.getpid()}" in words
        assert "waiting until it has finished" in words
        assert waiting.returncode is None
    async with asyncio.timeout(WAIT_S):
        out, _ = await waiting.communicate()
    assert waiting.returncode == 0
    assert b'"unchanged":4' in out


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_command_cleanly(program: Program, sent: signal.Signals) -> None:
    tree = program.data_dir.parent / "tree"
    async with EmbeddedServer(program.data_dir).writing():
        waiting = await asyncio.create_subprocess_exec(
            *program.command("stamp", tree, "--namespace", "demo"),
            stderr=asyncio.subprocess.PIPE,
        )
        assert waiting.stderr is not None
        async with asyncio.timeout(WAIT_S):
            assert b"waiting" in await waiting.stderr.readline()
            waiting.send_signal(sent)
            words = (await waiting.stderr.read()).decode()
            await waiting.wait()
    assert waiting.returncode == 130
    assert "interrupted" in words
    assert "Traceback" not in words


def test_a_reader_who_has_seen_enough_gets_no_traceback(program: Program) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(  # noqa: S603 - our own command
            program.command("list", "--json"),
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=WAIT_S,
            check=False,
        )
    finally:
        os.close(writing)
    assert ended.returncode == 1
    assert ended.stderr == b""


# -- the program itself ----------------------------------------------------------------------------


def test_the_version_is_told() -> None:
    assert run(PROGRAM, "--version").out.startswith(b"omninode-bridge ")


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["stamp", ".", "--no-such-option"],
        ["stamp", "/no/such/folder", "--namespace", "x"],
        ["stamp", ".", "--namespace", "with/slash"],
        ["stamp", "."],
        ["list", "--limit", "0"],
        ["bench", "--mode", "sideways"],
        ["bench", "--mode", "hot", "--processes", "2"],
        ["no-such-command"],
    ],
)
def test_wrong_use_is_told_apart_from_failure(wrong: list[str]) -> None:
    assert run(PROGRAM, *wrong).status == 2


def test_bench_measures_runs_too(server_folder: Path) -> None:
    done = run(
        *(PROGRAM, "bench", "--mode", "saga", "--clients", "20", "--seconds", "0.5", "--json"),
        TMPDIR=str(server_folder),
    )
    assert done.status == 0, done.words
    figures = done.object()
    assert set(figures) == {
        *("mode", "clients", "seconds", "runs_per_s", "steps_per_s", "not_completed"),
        *("run_p50_ms", "run_p95_ms", "run_p99_ms", "step_p50_ms", "step_p99_ms"),
        *("rss_mb", "pgbench_tps"),
    }
    assert (figures["mode"], figures["not_completed"]) == ("saga", 0)
    assert figures["runs_per_s"] > 0


def test_bench_compares_processes_that_share_with_one(server_folder: Path) -> None:
    done = run(
        *(PROGRAM, "bench", "--processes", "2", "--clients", "20", "--seconds", "0.5", "--json"),
        folder=server_folder,
        TMPDIR=str(server_folder),
    )
    assert done.status == 0, done.words
    figures = done.object()
    assert set(figures) == {
        *("mode", "processes", "clients", "seconds", "alone_per_s", "local_per_s"),
        *("crossing_per_s", "local_ratio", "crossing_ratio", "alone_p50_ms", "local_p50_ms"),
        *("crossing_p50_ms", "crossing_p99_ms", "not_committed", "pgbench_tps"),
    }
    assert (figures["processes"], figures["not_committed"]) == (2, 0)
    assert min(figures["alone_per_s"], figures["local_per_s"], figures["crossing_per_s"]) > 0
    assert figures["crossing_ratio"] == round(figures["crossing_per_s"] / figures["alone_per_s"], 2)
    assert "Warning" not in done.words
    assert list(server_folder.iterdir()) == []


def test_bench_prints_its_figures_and_leaves_nothing_behind(server_folder: Path) -> None:
    done = run(
        *(PROGRAM, "bench", "--mode", "hot", "--clients", "50", "--seconds", "0.5", "--json"),
        TMPDIR=str(server_folder),
        OMNINODE_KAFKA_BOOTSTRAP="127.0.0.1:1",  # nobody's load goes there by surprise
    )
    assert done.status == 0, done.words
    assert list(server_folder.iterdir()) == []
    figures = done.object()
    assert set(figures) == {
        *("mode", "clients", "seconds", "actions_per_s", "p50_ms", "p95_ms", "p99_ms"),
        *("projection_lag_p50_ms", "projection_lag_p99_ms", "conflicts", "gave_up", "retries"),
        *("rss_mb", "pgbench_tps"),
    }
    assert (figures["mode"], figures["clients"]) == ("hot", 50)
    assert (figures["conflicts"], figures["gave_up"]) == (0, 0)
    assert figures["actions_per_s"] > 0
    assert figures["pgbench_tps"] > 0


# -- odd names and surroundings -----------------------------------------------------------


def test_a_name_with_markup_in_it_is_shown_as_it_is(server_folder: Path) -> None:
    write(server_folder / "tree", {"[/bold]/[red]:a:.txt": "x"})
    program = Program(server_folder / "data")
    program.run("stamp", server_folder / "tree", "--namespace", "[b]a:b")
    key = "file:[b]a:b/[/bold]/[red]:a:.txt"
    assert program.run("show", key).out.decode().splitlines()[0].strip() == key
    assert key in program.run("list").out.decode()


def test_the_database_is_not_stamped(server_folder: Path) -> None:
    write(server_folder, FILES)
    program = Program(server_folder / "data")
    other = Program(server_folder / "other data")
    other.run("stamp", server_folder / "deep", "--namespace", "demo")
    done = program.json("stamp", server_folder, "--namespace", "demo")
    assert (done.object()["files"], done.object()["skipped"]) == (len(FILES), 1)
    assert "other data: a data folder of omninode_bridge" in done.words
    for inside in (server_folder / "data", server_folder / "data" / "postgres"):
        refused = program.run("stamp", inside, "--namespace", "demo", status=2)
        assert "is in the data folder" in refused.words


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_trouble(program: Program, closed: str) -> None:
    command = shlex.join(program.command("show", "namespace:demo", "--json"))
    assert run("sh", "-c", f"{command} {closed}").status == 0


def test_what_the_output_cannot_spell_is_escaped(server_folder: Path) -> None:
    write(server_folder / "tree", {"\u00e9.txt": "x"})
    program = Program(server_folder / "data")
    program.run("stamp", server_folder / "tree", "--namespace", "demo")
    done = run(*program.command("list"), PYTHONIOENCODING="ascii")
    assert done.status == 0
    assert b"file:demo/\\xe9.txt" in done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "--data-dir", ""], "an argument is empty"),
        (["list", "--data-dir="], "an argument is empty"),
        (["stamp", "", "--namespace", "x"], "an argument is empty"),
        (["show", "no-type"], "not of the form type:id"),
        (["show", "a:" + "x" * 600], "3 to 512 are allowed"),
        (["history", ":xyz"], "not of the form type:id"),
        (["list", "--after", "nothing"], "not of the form type:id"),
        (["list", "--database-url", "mysql://x"], "begins with postgresql://"),
        (["list", "--database-url", "postgresql://u:p@h:abc/x"], "port"),
    ],
)
def test_what_cannot_be_meant_is_wrong_use(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = run(PROGRAM, *arguments, folder=tmp_path)
    assert done.status == 2
    assert says in " ".join(done.words.replace("\u2502", " ").split())
    assert list(tmp_path.iterdir()) == []
