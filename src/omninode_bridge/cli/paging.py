"""Listings that may be long are read and printed a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

_T = TypeVar("_T")

PAGE: Final = 1_000


async def pages(
    read: Callable[[_T | None, int], Awaitable[Sequence[_T]]], limit: int | None
) -> AsyncIterator[Sequence[_T]]:
    """Yield pages until nothing is left, or `limit` rows were read.

    `read` is given the last row of the page before, None at first, and how many it may return.
    """
    found, last = 0, None
    while limit is None or found < limit:
        size = PAGE if limit is None else min(PAGE, limit - found)
        page = await read(last, size)
        if page:
            yield page
            found, last = found + len(page), page[-1]
        if len(page) < size:
            return
