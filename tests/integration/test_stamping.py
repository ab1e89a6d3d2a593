"""`stamp` and `check` on a real database, promise by promise."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omninode_bridge import Bridge, ReducerGaveUp
from omninode_bridge.stamping import Problem, Progress, Summary, app, stamp
from omninode_bridge.stamping.keys import removal_id, stamp_id
from tests.bridges import until
from tests.integration.stamping import (
    NOTHING,
    committed_in_all,
    hash_of,
    totals_of,
    totals_on_disk,
    write,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@pytest.fixture
async def bridge(database_url: str) -> AsyncIterator[Bridge]:
    async with Bridge.open(app, database_url=database_url) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    write(folder, "a.txt", "alpha")
    write(folder, "b.png", b"\x89PNG")
    write(folder, "docs/c.txt", "gamma ray")
    return folder


def counts(summary: Summary) -> Mapping[str, Any]:
    """Return what a run did, without what it did not do."""
    told = summary.as_dict()
    assert told.pop("namespace") == "docs"
    assert told.pop("seconds") > 0
    return {what: number for what, number in told.items() if number}


# -- stamping --------------------------------------------------------------------------------------


async def test_each_new_file_is_stamped_by_one_action(bridge: Bridge, tree: Path) -> None:
    summary = await stamp(bridge, tree, "docs")
    assert counts(summary) == {"files": 3, "new": 3, "bytes": 18, "actions": 3}
    for path, content in (("a.txt", "alpha"), ("docs/c.txt", "gamma ray")):
        (line,) = await bridge.history(f"file:docs/{path}")
        assert line["action"]["type"] == "StampFile"
        expected = stamp_id(f"file:docs/{path}", 0, hash_of(content))
        assert line["action"]["action_id"] == str(expected)
    assert await committed_in_all(bridge) == 2 * 3


async def test_a_stamp_says_where_a_file_came_from(bridge: Bridge, tree: Path) -> None:
    await stamp(bridge, tree, "docs")
    row = await bridge.state("file:docs/docs/c.txt")
    assert row is not None
    created_at = row.state.pop("created_at")
    assert datetime.fromisoformat(created_at).utcoffset() is not None
    assert row.state == {
        "stamp_id": str(row.provenance.action_id),
        "file_hash": hash_of("gamma ray"),
        "file_path": "docs/c.txt",
        "file_size": 9,
        "namespace": "docs",
        "content_type": "text/plain",
        "metadata_version": "0.1",
        "status": "stamped",
    }


async def test_stamps_are_listed_by_status_and_namespace(bridge: Bridge, tree: Path) -> None:
    await stamp(bridge, tree, "docs")
    await stamp(bridge, tree / "docs", "other")
    rows = await bridge.list(namespace="docs", tag="stamped")
    assert [row.workflow_key for row in rows] == [
        "file:docs/a.txt",
        "file:docs/b.png",
        "file:docs/docs/c.txt",
    ]
    assert rows[0].indices == {"file_hash": hash_of("alpha"), "file_size": 5}


async def test_the_totals_are_there_when_the_run_returns(bridge: Bridge, tree: Path) -> None:
    await stamp(bridge, tree, "docs")
    assert await totals_of(bridge, "docs") == {
        "files": 3,
        "total_stamps": 3,
        "total_size_bytes": 18,
        "content_types": {
            "text/plain": {"files": 2, "bytes": 14},
            "image/png": {"files": 1, "bytes": 4},
        },
    }
    assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=3)


async def test_a_second_run_finds_everything_unchanged_and_commits_nothing(
    bridge: Bridge, tree: Path
) -> None:
    for number in range(1_100):  # more than a page of what is known
        write(tree, f"many/{number}", str(number))
    await stamp(bridge, tree, "docs")
    before = await committed_in_all(bridge), await totals_of(bridge, "docs")
    again = counts(await stamp(bridge, tree, "docs", prune=True))
    assert again.keys() == {"files", "unchanged", "bytes"}
    assert again["files"] == again["unchanged"] == 1_103
    assert (await committed_in_all(bridge), await totals_of(bridge, "docs")) == before


async def test_only_what_changed_is_stamped_again(bridge: Bridge, tree: Path) -> None:
    await stamp(bridge, tree, "docs")
    write(tree, "a.txt", "alphabet")
    write(tree, "new.md", "# new")
    summary = counts(await stamp(bridge, tree, "docs"))
    expected = {"files": 4, "new": 1, "changed": 1, "unchanged": 2, "bytes": 26, "actions": 2}
    assert summary == expected
    assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=5)


async def test_a_b_a_are_three_stamps(bridge: Bridge, tree: Path) -> None:
    for content in ("alpha", "beta", "alpha"):
        write(tree, "a.txt", content)
        await stamp(bridge, tree, "docs")
    lines = await bridge.history("file:docs/a.txt")
    assert [line["action"]["type"] for line in lines] == ["StampFile"] * 3
    assert len({line["action"]["action_id"] for line in lines}) == 3
    assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=3 + 2)


async def test_namespaces_that_look_alike_are_apart(bridge: Bridge, tree: Path) -> None:
    for namespace in ("docs", "doc", "docs2", "docs:a", "dócs"):
        summary = await stamp(bridge, tree, namespace, prune=True)
        assert (summary.namespace, summary.new, summary.removed) == (namespace, 3, 0)
        assert await totals_of(bridge, namespace) == totals_on_disk(tree, total_stamps=3)


async def test_an_empty_folder_is_stamped_without_a_trace(bridge: Bridge, tmp_path: Path) -> None:
    assert counts(await stamp(bridge, tmp_path, "docs", prune=True)) == {}
    assert await totals_of(bridge, "docs") == NOTHING


async def test_empty_files_count_and_weigh_nothing(bridge: Bridge, tmp_path: Path) -> None:
    write(tmp_path, "empty.txt", "")
    write(tmp_path, "empty", "")
    summary = counts(await stamp(bridge, tmp_path, "docs"))
    assert summary == {"files": 2, "new": 2, "actions": 2}
    assert await totals_of(bridge, "docs") == totals_on_disk(tmp_path, total_stamps=2)


async def test_big_and_small_files_have_the_hash_of_their_contents(
    bridge: Bridge, tmp_path: Path
) -> None:
    contents = {f"{size}.bin": bytes(size) for size in (1, 1_048_576, 1_048_577, 20_000_000)}
    for name, content in contents.items():
        write(tmp_path, name, content)
    await stamp(bridge, tmp_path, "docs")
    for name, content in contents.items():
        row = await bridge.read(f"file:docs/{name}")
        assert row is not None
        assert row.indices == {"file_hash": hash_of(content), "file_size": len(content)}


async def test_names_are_any_utf_8(bridge: Bridge, tmp_path: Path) -> None:
    names = [
        "grün",
        "two words",
        "new\nline",
        'quo"te',
        "back\\slash",
        "日本語",
        "a:b",
        "%s",
        "\x7f",
    ]
    for name in names:
        write(tmp_path, name, name)
    assert (await stamp(bridge, tmp_path, "docs")).new == len(names)
    rows = await bridge.list(namespace="docs", tag="stamped")
    assert sorted(row.workflow_key for row in rows) == sorted(f"file:docs/{n}" for n in names)
    assert (await stamp(bridge, tmp_path, "docs", prune=True)).unchanged == len(names)


# -- what is gone ----------------------------------------------------------------------------------


async def test_files_that_are_gone_stay_in_the_totals_unless_pruned(
    bridge: Bridge, tree: Path
) -> None:
    await stamp(bridge, tree, "docs")
    before = await totals_of(bridge, "docs")
    (tree / "b.png").unlink()
    summary = counts(await stamp(bridge, tree, "docs"))
    assert summary == {"files": 2, "unchanged": 2, "bytes": 14}
    assert await totals_of(bridge, "docs") == before

    pruned = counts(await stamp(bridge, tree, "docs", prune=True))
    assert pruned == {"files": 2, "unchanged": 2, "removed": 1, "bytes": 14, "actions": 1}
    assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=3)
    assert [row.workflow_key for row in await bridge.list(tag="removed")] == ["file:docs/b.png"]

    nothing_more = counts(await stamp(bridge, tree, "docs", prune=True))
    assert nothing_more == {"files": 2, "unchanged": 2, "bytes": 14}


async def test_a_file_that_comes_back_is_new_again(bridge: Bridge, tree: Path) -> None:
    await stamp(bridge, tree, "docs")
    (tree / "b.png").unlink()
    await stamp(bridge, tree, "docs", prune=True)
    write(tree, "b.png", b"\x89PNG")
    summary = counts(await stamp(bridge, tree, "docs", prune=True))
    assert summary == {"files": 3, "new": 1, "unchanged": 2, "bytes": 18, "actions": 1}
    assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=4)


async def test_a_file_whose_place_is_taken_by_a_link_or_a_folder_is_gone(
    bridge: Bridge, tree: Path
) -> None:
    await stamp(bridge, tree, "docs")
    (tree / "a.txt").unlink()
    (tree / "a.txt").symlink_to("b.png")
    (tree / "b.png").unlink()
    write(tree, "b.png/inside", "inside")
    summary = counts(await stamp(bridge, tree, "docs", prune=True))
    assert summary.items() >= {"new": 1, "removed": 2, "unchanged": 1, "skipped": 1}.items()
    totals = await totals_of(bridge, "docs")
    assert (totals["files"], totals["total_size_bytes"]) == (2, 15)


async def test_excluded_names_are_not_there_and_their_stamps_are_gone(
    bridge: Bridge, tree: Path
) -> None:
    write(tree, ".git/config", "secret")
    problems: list[Problem] = []
    exclude = frozenset({".git"})
    await stamp(bridge, tree, "docs", exclude=exclude, report=problems.append)
    assert await bridge.state("file:docs/.git/config") is None
    await stamp(bridge, tree, "docs")
    assert await bridge.state("file:docs/.git/config") is not None
    pruned = await stamp(bridge, tree, "docs", prune=True, exclude=exclude, report=problems.append)
    assert (pruned.files, pruned.removed) == (3, 1)
    assert problems == []


async def test_a_folder_that_is_left_out_is_not_there(bridge: Bridge, tree: Path) -> None:
    assert (await stamp(bridge, tree, "docs", left_out=tree / "docs")).files == 2


# -- what cannot be stamped ------------------------------------------------------------------------


async def test_what_is_no_file_of_ours_is_reported_by_name_and_ends_nothing(
    bridge: Bridge, tree: Path
) -> None:
    (tree / "link").symlink_to("a.txt")
    (tree / "folder-link").symlink_to("docs")
    write(tree, "not-utf-8-\udcff.txt", "latin")
    long_name = "/".join(["x" * 250] * 2) + "/y"  # 503 bytes; a key has 512, "file:docs/" are 10
    write(tree, long_name, "too long")
    problems: list[Problem] = []
    summary = counts(await stamp(bridge, tree, "docs", prune=True, report=problems.append))
    expected = {"files": 3, "new": 3, "skipped": 2, "failed": 2, "bytes": 18, "actions": 3}
    assert summary == expected
    assert sorted((problem.name, problem.kind, problem.reason) for problem in problems) == [
        ("folder-link", "skipped", "a symbolic link"),
        ("link", "skipped", "a symbolic link"),
        (r"not-utf-8-\xff.txt", "failed", "its name is not UTF-8"),
        (long_name, "failed", "its path has 503 bytes; 502 fit into a key"),
    ]


async def test_the_longest_name_that_fits_is_stamped(bridge: Bridge, tmp_path: Path) -> None:
    name = "/".join(["x" * 250] * 2) + "/" + "y"
    write(tmp_path, name[1:], "fits")
    assert len(f"file:docs/{name[1:]}") == 512
    assert (await stamp(bridge, tmp_path, "docs")).new == 1


async def test_what_the_bridge_gives_up_is_reported_by_name(bridge: Bridge, tree: Path) -> None:
    # Somebody has used the id of our stamp for something else.
    key = "file:docs/a.txt"
    theirs = stamp_id(key, 0, hash_of("alpha"))
    outcome = await bridge.submit(key, "RemoveFile", {"file_hash": ""}, action_id=theirs)
    assert isinstance(outcome, ReducerGaveUp)
    problems: list[Problem] = []
    summary = await stamp(bridge, tree, "docs", report=problems.append)
    assert (summary.files, summary.new, summary.failed) == (3, 2, 1)
    (problem,) = problems
    assert (problem.name, problem.kind) == ("a.txt", "failed")
    assert problem.reason.startswith("given up (id_reused): ")
    assert (await totals_of(bridge, "docs"))["files"] == 2


async def test_a_removal_that_is_given_up_is_reported_by_name(bridge: Bridge, tree: Path) -> None:
    await stamp(bridge, tree, "docs")
    (tree / "a.txt").unlink()
    key = "file:docs/a.txt"
    await bridge.submit(key, "RemoveFile", {"file_hash": ""}, action_id=removal_id(key, 1))
    problems: list[Problem] = []
    summary = await stamp(bridge, tree, "docs", prune=True, report=problems.append)
    assert (summary.files, summary.removed, summary.failed) == (2, 0, 1)
    assert [problem.name for problem in problems] == ["a.txt"]
    assert (await totals_of(bridge, "docs"))["files"] == 3


async def test_what_was_rejected_before_under_the_same_id_is_not_counted(
    bridge: Bridge, tree: Path
) -> None:
    key, asked = "file:docs/a.txt", {"file_hash": hash_of("alpha")}
    await bridge.submit(key, "RemoveFile", asked, action_id=removal_id(key, 1))
    await stamp(bridge, tree, "docs")
    (tree / "a.txt").unlink()
    problems: list[Problem] = []
    summary = await stamp(bridge, tree, "docs", prune=True, report=problems.append)
    assert (summary.files, summary.removed, summary.actions, summary.failed) == (2, 0, 0, 0)
    assert problems == []


@pytest.mark.parametrize("name", ["nothing", "a.txt", "a.txt/below"])
async def test_what_is_no_folder_is_refused_before_anything_is_committed(
    bridge: Bridge, tree: Path, name: str
) -> None:
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        await stamp(bridge, tree / name, "docs")
    assert await committed_in_all(bridge) == 0


async def test_what_is_no_namespace_is_refused_before_anything_is_committed(
    bridge: Bridge, tree: Path
) -> None:
    with pytest.raises(ValueError, match="slash"):
        await stamp(bridge, tree, "a/b")
    assert await committed_in_all(bridge) == 0


async def test_a_relative_folder_is_the_same_folder(
    bridge: Bridge, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stamp(bridge, tree, "docs")
    monkeypatch.chdir(tree)
    assert (await stamp(bridge, Path(), "docs", prune=True)).unchanged == 3
    assert (await stamp(bridge, Path("docs/.."), "docs", prune=True)).unchanged == 3


# -- progress --------------------------------------------------------------------------------------


async def test_progress_only_goes_on_and_ends_with_everything(
    bridge: Bridge, tmp_path: Path
) -> None:
    for number in range(1_500):
        write(tmp_path, f"{number}", "x" * 10)
    seen: list[Progress] = []
    summary = await stamp(bridge, tmp_path, "docs", progress=seen.append)
    assert seen[-1] == Progress(1_500, 1_500, 15_000, walking=False)
    for before, after in pairwise(seen):
        assert before.files_found <= after.files_found
        assert before.files_done <= after.files_done <= after.files_found
        assert before.bytes_done <= after.bytes_done
        assert before.walking or not after.walking
    assert len(seen) <= 2 + summary.seconds * 10


async def test_what_goes_wrong_in_the_callers_own_report_ends_the_run(
    bridge: Bridge, tree: Path
) -> None:
    def fail(_: Problem) -> None:
        raise LookupError("the caller's own")

    (tree / "link").symlink_to("a.txt")
    with pytest.raises(LookupError, match="the caller's own"):
        await stamp(bridge, tree, "docs", report=fail)
    summary = await stamp(bridge, tree, "docs")
    assert summary.files == 3
    assert await totals_of(bridge, "docs") == totals_on_disk_without_links(tree)


async def test_a_run_that_is_cancelled_does_not_read_a_big_file_to_its_end(
    bridge: Bridge, tree: Path
) -> None:
    with (tree / "big").open("wb") as big:
        big.truncate(2**40)  # sparse; minutes to read
    run = asyncio.create_task(stamp(bridge, tree, "docs"))
    await until(lambda: is_open(tree / "big"), "the big file is being read")
    run.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await run
    assert not is_open(tree / "big")


def is_open(path: Path) -> bool:
    """Say whether this process has `path` open."""
    descriptors = Path("/proc/self/fd").iterdir()
    return any(
        descriptor.is_symlink() and os.path.realpath(descriptor) == str(path)
        for descriptor in descriptors
    )


def totals_on_disk_without_links(tree: Path) -> dict[str, Any]:
    (tree / "link").unlink()
    return totals_on_disk(tree, total_stamps=3)
