"""The names of stamping: keys of files and namespaces, and the ids of what is asked of a file.

Rule 1: an action's id follows from the key, the version that was seen, and what is asked. So a
        retry is the same action, and the same contents at a later version are another one.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

NAMESPACE_BYTES_MAX: Final = 200
KEY_BYTES_MAX: Final = 512

_IDS: Final = UUID("8c0f6f43-9a52-5a1e-8d8a-5f6f0a0c7b11")
_REMOVED: Final = "removed"  # no hash: those have 64 digits


def check_namespace(namespace: str) -> str:
    """Return `namespace` when files can be stamped in it: 1 to 200 bytes of UTF-8, no "/", no NUL.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if not namespace:
        raise ValueError("a namespace cannot be empty")
    if "/" in namespace:
        raise ValueError(f"a namespace cannot hold a slash: {namespace!r}")
    if "\0" in namespace:
        raise ValueError(f"a namespace cannot hold a NUL character: {namespace!r}")
    try:
        size = len(namespace.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"a namespace must be UTF-8, not {namespace!r}") from error
    if size > NAMESPACE_BYTES_MAX:
        raise ValueError(f"a namespace has at most {NAMESPACE_BYTES_MAX} bytes, not {size}")
    return namespace


def namespace_key(namespace: str) -> str:
    """Return the key that holds the totals of `namespace`."""
    return f"namespace:{namespace}"


def file_key(namespace: str, path: str) -> str:
    """Return the key of the file at `path`, relative to the folder that is stamped."""
    return f"file:{namespace}/{path}"


def parts_of(key: str) -> tuple[str, str]:
    """Return namespace and path of a file's key; the path is empty when the key names none."""
    namespace, _, path = key.removeprefix("file:").partition("/")
    return namespace, path


def path_bytes_max(namespace: str) -> int:
    """Return how long a path may be, in bytes, to be part of a key."""
    return KEY_BYTES_MAX - len(file_key(namespace, "").encode())


def stamp_id(key: str, version: int, file_hash: str) -> UUID:
    """Return the id of stamping `key`, seen at `version`, with `file_hash`."""
    return uuid5(_IDS, f"{key}\0{version}\0{file_hash}")


def removal_id(key: str, version: int) -> UUID:
    """Return the id of taking `key`, seen at `version`, out of the totals."""
    return uuid5(_IDS, f"{key}\0{version}\0{_REMOVED}")
