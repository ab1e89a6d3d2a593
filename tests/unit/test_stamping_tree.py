"""What a walk finds, what it says of the rest, and what reading makes of it."""

from __future__ import annotations

import os
import stat
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.stamping.reading import BLOCK_BYTES, Hashed, Stopped, read, read_batch
from omninode_bridge.stamping.tree import (
    BATCH_BYTES_MAX,
    BATCH_FILES_MAX,
    Found,
    Missed,
    batches,
    folder_id,
    printable,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATH_BYTES_MAX: Final = 500


def walked(root: Path, *exclude: str) -> list[Found | Missed]:
    names = frozenset(os.fsencode(name) for name in exclude)
    return list(walk(os.fsencode(root), names, PATH_BYTES_MAX))


def paths(root: Path, *exclude: str) -> list[str]:
    return [entry.path for entry in walked(root, *exclude) if isinstance(entry, Found)]


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(name))


def goes_on() -> bool:
    return False


# -- walking -------------------------------------------------------------------------------------


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    assert walked(tmp_path) == []


def test_the_order_of_a_walk_is_that_of_the_names_whatever_the_file_system_says(
    tmp_path: Path,
) -> None:
    write(tmp_path, "b/2", "z", "a", "b/1", "b/c/3", "b.txt", "B", "ä")
    assert paths(tmp_path) == ["B", "a", "b.txt", "z", "ä", "b/1", "b/2", "b/c/3"]


def test_a_file_is_found_with_its_size(tmp_path: Path) -> None:
    write(tmp_path, "folder/a.txt")
    assert walked(tmp_path) == [Found(b"folder/a.txt", "folder/a.txt", len("folder/a.txt"))]


def test_excluded_names_are_left_out_wherever_they_stand_and_folders_whole(tmp_path: Path) -> None:
    write(tmp_path, ".git/config", "a", "b/.git", "b/c", "b/a", "git", "d/a/e")
    assert paths(tmp_path, ".git", "a") == ["git", "b/c"]


def test_one_folder_is_left_out_by_what_it_is_and_not_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, "a/data/file", "b/data/file")
    (tmp_path / "link").symlink_to("a")
    own = folder_id(tmp_path / "link" / "data")
    found = walk(os.fsencode(tmp_path), frozenset(), PATH_BYTES_MAX, own)
    assert [entry.raw for entry in found] == [b"link", b"b/data/file"]


def test_a_folder_that_is_not_there_is_known_by_nothing(tmp_path: Path) -> None:
    assert folder_id(tmp_path / "nothing") is None


def test_symbolic_links_are_skipped_and_never_followed(tmp_path: Path) -> None:
    write(tmp_path, "folder/file")
    (tmp_path / "to-file").symlink_to("folder/file")
    (tmp_path / "to-folder").symlink_to("folder")
    (tmp_path / "to-itself").symlink_to("to-itself")
    (tmp_path / "to-above").symlink_to("..")
    (tmp_path / "to-nowhere").symlink_to("nowhere")
    links = [b"to-above", b"to-file", b"to-folder", b"to-itself", b"to-nowhere"]
    expected = [Missed(link, "skipped", "a symbolic link") for link in links]
    assert walked(tmp_path) == [*expected, Found(b"folder/file", "folder/file", 11)]


def test_the_folder_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    write(tmp_path, "folder/file")
    (tmp_path / "link").symlink_to("folder")
    assert paths(tmp_path / "link") == ["file"]


def test_sockets_pipes_and_devices_are_skipped(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    os.mkfifo(tmp_path / "pipe")
    expected = [
        Missed(b"pipe", "skipped", "a named pipe"),
        Missed(b"socket", "skipped", "a socket"),
    ]
    if os.geteuid() == 0:
        os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        expected.insert(0, Missed(b"device", "skipped", "a device"))
    assert walked(tmp_path) == expected


def test_a_name_that_is_not_utf_8_fails_by_name_and_its_neighbours_do_not(tmp_path: Path) -> None:
    write(tmp_path, "a", "z")
    for name in (b"b\xff", b"c\xed\xa0\x80", b"folder\xe4/d"):
        write(tmp_path, os.fsdecode(name))
    found = walked(tmp_path)
    assert [(printable(entry.raw), type(entry)) for entry in found] == [
        ("a", Found),
        (r"b\xff", Missed),
        (r"c\xed\xa0\x80", Missed),
        ("z", Found),
        (r"folder\xe4/d", Missed),
    ]
    reasons = {entry[1:3] for entry in found if isinstance(entry, Missed)}
    assert reasons == {("failed", "its name is not UTF-8")}


def test_a_path_that_is_too_long_for_a_key_fails_by_name(tmp_path: Path) -> None:
    deep = "/".join(["x" * 99] * 5)  # 499 bytes: fits to the byte with one more
    write(tmp_path, f"{deep[:-1]}/y", f"{deep[:-1]}/yz")
    fits, fails = walked(tmp_path)
    assert isinstance(fits, Found)
    assert len(fits.raw) == PATH_BYTES_MAX
    reason = "its path has 501 bytes; 500 fit into a key"
    assert fails == Missed(fits.raw + b"z", "failed", reason)


def test_folders_deeper_than_a_path_may_be_long_fail_and_end_nothing(tmp_path: Path) -> None:
    write(tmp_path, "z/file")
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("y" * 250, dir_fd=folder)
        deeper = os.open("y" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    failed, found = walked(tmp_path)
    assert isinstance(failed, Missed)
    assert (failed.kind, failed.reason) == ("failed", "File name too long")
    assert found == Found(b"z/file", "z/file", 6)


def test_a_walk_goes_on_when_a_folder_vanishes_before_it(tmp_path: Path) -> None:
    write(tmp_path, "b/file", "c/file", "z")
    walking = walk(os.fsencode(tmp_path), frozenset(), PATH_BYTES_MAX)
    assert next(walking) == Found(b"z", "z", 1)
    (tmp_path / "b" / "file").unlink()
    (tmp_path / "b").rmdir()
    vanished = Missed(b"b", "skipped", "it vanished")
    assert list(walking) == [vanished, Found(b"c/file", "c/file", 6)]


def test_a_walk_goes_on_when_a_file_vanishes_before_it(tmp_path: Path) -> None:
    write(tmp_path, "a", "b", "c")
    walking = walk(os.fsencode(tmp_path), frozenset(), PATH_BYTES_MAX)
    assert next(walking) == Found(b"a", "a", 1)
    (tmp_path / "b").unlink()
    assert list(walking) == [Missed(b"b", "skipped", "it vanished"), Found(b"c", "c", 1)]


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_folder_cannot_be_walked(tmp_path: Path, name: str) -> None:
    write(tmp_path, "file")
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        walked(tmp_path / name)


# -- batches and names ---------------------------------------------------------------------------

entries: Final = st.lists(
    st.builds(lambda size: Found(b"a", "a", size), st.integers(0, 2 * BATCH_BYTES_MAX))
    | st.just(Missed(b"a", "skipped", "a socket")),
    max_size=3 * BATCH_FILES_MAX,
)


@given(entries)
def test_batches_hold_everything_in_order_and_not_much_at_once(found: list[Found | Missed]) -> None:
    made = list(batches(found))
    assert [entry for batch in made for entry in batch] == found
    for batch in made:
        assert 0 < len(batch) <= BATCH_FILES_MAX
        assert sum(entry.size for entry in batch[:-1] if isinstance(entry, Found)) < BATCH_BYTES_MAX


def test_batches_are_made_as_they_are_asked_for() -> None:
    taken = 0

    def endless() -> Iterator[Found]:
        nonlocal taken
        while True:
            taken += 1
            yield Found(b"a", "a", 1)

    assert len(next(batches(endless()))) == taken == BATCH_FILES_MAX


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"a/b.txt", "a/b.txt"),
        ("grün".encode(), "grün"),
        (b"a\xffb", r"a\xffb"),
        (b"a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("a\u202eb".encode(), r"a\u202eb"),
        (b"", "."),
    ],
)
def test_a_name_is_printed_so_that_it_can_harm_no_terminal(raw: bytes, name: str) -> None:
    assert printable(raw) == name


@given(st.binary())
def test_every_name_can_be_printed(raw: bytes) -> None:
    assert printable(raw).isprintable()


# -- reading -------------------------------------------------------------------------------------


def read_file(root: Path, name: str) -> Hashed | Missed:
    return read(os.fsencode(root), Found(os.fsencode(name), name, 0), goes_on)


@pytest.mark.parametrize(
    "size", [0, 1, 1_000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES]
)
def test_the_hash_of_a_file_is_blake3_of_its_contents(tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(size % BLOCK_BYTES)) + bytes(
        BLOCK_BYTES * (size // BLOCK_BYTES)
    )
    (tmp_path / "file").write_bytes(content)
    assert read_file(tmp_path, "file") == Hashed("file", size, blake3(content).hexdigest())


def test_a_batch_is_read_in_its_order_and_what_was_missed_stays_missed(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    missed = Missed(b"c", "failed", "its name is not UTF-8")
    batch: list[Found | Missed] = [Found(b"b", "b", 1), missed, Found(b"a", "a", 1)]
    b, same, a = read_batch(os.fsencode(tmp_path), batch, goes_on)
    assert isinstance(a, Hashed)
    assert isinstance(b, Hashed)
    assert (b.path, same, a.path) == ("b", missed, "a")


def test_a_file_that_vanished_since_the_walk_is_skipped(tmp_path: Path) -> None:
    assert read_file(tmp_path, "gone") == Missed(b"gone", "skipped", "it vanished")
    write(tmp_path, "folder")
    expected = Missed(b"folder/gone", "skipped", "it vanished")
    assert read_file(tmp_path, "folder/gone") == expected


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("file"), "a symbolic link"),
        (os.mkfifo, "a named pipe"),
        (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "a socket"),
        (lambda path: path.mkdir(), "no regular file"),
    ],
)
def test_what_has_taken_a_files_place_is_skipped_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    write(tmp_path, "file")
    make(tmp_path / "was-a-file")
    assert read_file(tmp_path, "was-a-file") == Missed(b"was-a-file", "skipped", reason)


def test_a_file_that_changes_whenever_it_is_read_fails(tmp_path: Path) -> None:
    write(tmp_path, "file")
    seconds = count(1)

    def change_it() -> bool:
        write(tmp_path, "file")  # as long as before
        os.utime(tmp_path / "file", times=(1, next(seconds)))  # clocks of file systems are coarse
        return False

    missed = read(os.fsencode(tmp_path), Found(b"file", "file", 4), change_it)
    assert missed == Missed(b"file", "failed", "it changed while it was read")


def test_a_file_that_changes_once_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    content = b"old" + bytes(3 * BLOCK_BYTES)
    (tmp_path / "file").write_bytes(content)
    os.utime(tmp_path / "file", times=(1, 1))
    asked = 0

    def change_it_then_go_on() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:  # one block has been read
            (tmp_path / "file").write_bytes(content.replace(b"old", b"new"))
        return False

    found = Found(b"file", "file", len(content))
    file_hash = blake3(content.replace(b"old", b"new")).hexdigest()
    expected = Hashed("file", len(content), file_hash)
    assert read(os.fsencode(tmp_path), found, change_it_then_go_on) == expected


@pytest.mark.parametrize("size", [BLOCK_BYTES // 2, 5 * BLOCK_BYTES])
def test_a_file_that_shrinks_or_grows_in_between_is_never_hashed_half(
    tmp_path: Path, size: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(3 * BLOCK_BYTES))

    def change_it() -> bool:
        with (tmp_path / "file").open("r+b") as file:
            file.truncate(size if file.seek(0, os.SEEK_END) != size else 3 * BLOCK_BYTES)
        return False

    found = Found(b"file", "file", 3 * BLOCK_BYTES)
    missed = read(os.fsencode(tmp_path), found, change_it)
    assert missed == Missed(b"file", "failed", "it changed while it was read")


def test_reading_stops_in_the_middle_of_a_file_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 * BLOCK_BYTES))
    answers = iter([False, True])
    with pytest.raises(Stopped):
        read(os.fsencode(tmp_path), Found(b"file", "file", 3), lambda: next(answers))
