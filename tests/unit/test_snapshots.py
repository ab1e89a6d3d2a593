"""What a worker remembers between folds is bounded in keys and in bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.reducer import Snapshot
from omninode_bridge.core.snapshots import SnapshotCache

keys = st.sampled_from(["a:1", "a:2", "a:3", "a:4", "a:5"])
steps = st.lists(
    st.tuples(st.sampled_from(["put", "get", "drop", "clear"]), keys, st.integers(2, 30))
)


def snapshot(size: int, version: int = 1) -> Snapshot:
    """Return a snapshot whose state has `size` bytes."""
    return Snapshot(version, b"x" * size)


def test_what_was_put_is_held() -> None:
    cache = SnapshotCache()
    cache.put("a:1", snapshot(10))
    assert cache.get("a:1") == snapshot(10)
    assert cache.get("a:2") is None
    assert (len(cache), cache.state_bytes) == (1, 10)


def test_the_newest_snapshot_of_a_key_takes_the_place_of_the_one_before() -> None:
    cache = SnapshotCache()
    cache.put("a:1", snapshot(10, version=1))
    cache.put("a:1", snapshot(7, version=2))
    assert cache.get("a:1") == snapshot(7, version=2)
    assert (len(cache), cache.state_bytes) == (1, 7)


def test_the_least_recently_used_goes_first() -> None:
    cache = SnapshotCache(keys_max=2)
    cache.put("a:1", snapshot(1))
    cache.put("a:2", snapshot(1))
    cache.get("a:1")
    cache.put("a:3", snapshot(1))
    assert [cache.get(key) is None for key in ("a:1", "a:2", "a:3")] == [False, True, False]


def test_as_many_go_as_the_bytes_ask_for() -> None:
    cache = SnapshotCache(bytes_max=100)
    for number in range(10):
        cache.put(f"a:{number}", snapshot(10))
    cache.put("a:big", snapshot(75))
    assert (len(cache), cache.state_bytes) == (3, 95)
    assert cache.get("a:9") is not None


def test_a_state_larger_than_the_whole_cache_is_not_held() -> None:
    cache = SnapshotCache(bytes_max=100)
    cache.put("a:1", snapshot(101))
    assert cache.get("a:1") is None
    assert (len(cache), cache.state_bytes) == (0, 0)


def test_what_was_dropped_is_gone_and_dropping_it_again_is_nothing() -> None:
    cache = SnapshotCache()
    cache.put("a:1", snapshot(10))
    cache.drop("a:1")
    cache.drop("a:1")
    assert cache.get("a:1") is None
    assert (len(cache), cache.state_bytes) == (0, 0)


def test_a_cleared_cache_holds_nothing() -> None:
    cache = SnapshotCache()
    cache.put("a:1", snapshot(10))
    cache.clear()
    assert (cache.get("a:1"), len(cache), cache.state_bytes) == (None, 0, 0)


@given(steps, st.integers(1, 4), st.integers(20, 60))
def test_both_bounds_hold_and_nothing_stale_is_ever_read(
    taken: list[tuple[str, str, int]], keys_max: int, bytes_max: int
) -> None:
    cache = SnapshotCache(keys_max, bytes_max)
    latest: dict[str, Snapshot] = {}
    for version, (step, key, size) in enumerate(taken):
        match step:
            case "put":
                latest[key] = snapshot(size, version)
                cache.put(key, latest[key])
            case "get":
                assert cache.get(key) in {None, latest.get(key)}
            case "drop":
                latest.pop(key, None)
                cache.drop(key)
            case _:
                latest.clear()
                cache.clear()
        assert len(cache) <= keys_max
        assert cache.state_bytes <= bytes_max
    held = [found for key in latest if (found := cache.get(key)) is not None]
    assert len(cache) == len(held)
    assert cache.state_bytes == sum(len(each.state) for each in held)
