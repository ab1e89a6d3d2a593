"""The pure part of stamping: what a file becomes, and what it does to the totals."""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge import Action, Rejection, Transition
from omninode_bridge.stamping import app
from omninode_bridge.stamping.files import (
    project_file,
    project_namespace,
    reduce_file,
    reduce_namespace,
)

if TYPE_CHECKING:
    import random

State = dict[str, Any]

A: Final = "a" * 64
B: Final = "b" * 64
KEY: Final = "file:docs/folder/a.txt"
OCCURRED_AT: Final = datetime(2011, 10, 1, 2, 38, 44, 546000, tzinfo=timezone(timedelta(hours=2)))


def stamp(
    file_hash: str = A, size: int = 10, content_type: str = "text/plain", *, key: str = KEY
) -> Action:
    payload = {"file_hash": file_hash, "file_size": size, "content_type": content_type}
    return Action(UUID(int=7), key, "StampFile", payload, OCCURRED_AT)


def remove(file_hash: str = A, *, key: str = KEY) -> Action:
    return Action(UUID(int=8), key, "RemoveFile", {"file_hash": file_hash}, OCCURRED_AT)


def reduced(state: State, action: Action) -> tuple[State, State]:
    """Return the next state, and the difference it makes."""
    transition = reduce_file(state, action)
    assert isinstance(transition, Transition), transition
    (intent,) = transition.intents
    assert intent.intent_type == "SubmitAction"
    assert intent.target == intent.payload["key"] == "namespace:docs"
    assert intent.payload["type"] == "TotalsChanged"
    return dict(transition.state), intent.payload["payload"]


def totals_after(totals: State, difference: State) -> State:
    action = Action(UUID(int=9), "namespace:docs", "TotalsChanged", difference, OCCURRED_AT)
    transition = reduce_namespace(totals, action)
    assert isinstance(transition, Transition), transition
    assert transition.intents == ()
    return dict(transition.state)


def test_the_application_declares_files_and_namespaces() -> None:
    assert app.name == "stamping"
    assert app.key_types().keys() == {"file", "namespace"}


def test_a_stamp_is_the_whole_provenance_of_a_file() -> None:
    state, _ = reduced({}, stamp())
    assert state == {
        "stamp_id": str(UUID(int=7)),
        "file_hash": A,
        "file_path": "folder/a.txt",
        "file_size": 10,
        "namespace": "docs",
        "content_type": "text/plain",
        "created_at": "2011-10-01T00:38:44.546000+00:00",
        "metadata_version": "0.1",
        "status": "stamped",
    }


def test_a_new_file_adds_itself_to_the_totals() -> None:
    _, difference = reduced({}, stamp())
    assert difference == {
        "files": 1,
        "stamps": 1,
        "bytes": 10,
        "content_types": {"text/plain": {"files": 1, "bytes": 10}},
    }


def test_a_changed_file_adds_what_it_has_grown_by() -> None:
    before, _ = reduced({}, stamp())
    after, difference = reduced(before, stamp(B, 4))
    assert (after["file_hash"], after["file_size"]) == (B, 4)
    assert difference == {
        "files": 0,
        "stamps": 1,
        "bytes": -6,
        "content_types": {"text/plain": {"files": 0, "bytes": -6}},
    }


def test_a_changed_content_type_moves_the_file_from_one_to_the_other() -> None:
    before, _ = reduced({}, stamp())
    _, difference = reduced(before, stamp(B, 4, "text/html"))
    assert difference["files"] == 0
    assert difference["content_types"] == {
        "text/plain": {"files": -1, "bytes": -10},
        "text/html": {"files": 1, "bytes": 4},
    }


def test_the_same_hash_again_is_rejected() -> None:
    before, _ = reduced({}, stamp())
    assert reduce_file(before, stamp()) == Rejection(f"already stamped with {A}")


def test_a_removed_file_is_out_of_the_totals_and_its_stamps_are_not() -> None:
    before, _ = reduced({}, stamp())
    after, difference = reduced(before, remove())
    assert after == before | {"status": "removed"}
    assert difference == {
        "files": -1,
        "stamps": 0,
        "bytes": -10,
        "content_types": {"text/plain": {"files": -1, "bytes": -10}},
    }


def test_a_file_that_comes_back_is_new_again() -> None:
    stamped, first = reduced({}, stamp())
    removed, _ = reduced(stamped, remove())
    again, difference = reduced(removed, stamp())
    assert again == stamped
    assert difference == first


def test_what_has_no_stamp_cannot_be_removed() -> None:
    assert reduce_file({}, remove()) == Rejection("there is no stamp to remove")
    removed, _ = reduced(reduced({}, stamp())[0], remove())
    assert reduce_file(removed, remove()) == Rejection("there is no stamp to remove")


def test_a_stamp_that_the_remover_has_not_seen_stays() -> None:
    before, _ = reduced({}, stamp(B))
    assert reduce_file(before, remove(A)) == Rejection(f"stamped anew since, with {B}")


@pytest.mark.parametrize("key", ["file:docs", "file:docs/", "file:/a.txt"])
def test_a_key_without_namespace_or_path_is_no_file(key: str) -> None:
    expected = Rejection("the key of a file is file:<namespace>/<path>")
    assert reduce_file({}, stamp(key=key)) == expected


@pytest.mark.parametrize("reducer", [reduce_file, reduce_namespace])
def test_an_unknown_action_is_rejected(reducer: Any) -> None:  # noqa: ANN401 - either
    action = Action(UUID(int=7), KEY, "Renamed", {}, OCCURRED_AT)
    assert isinstance(reducer({}, action), Rejection)


def test_a_file_is_listed_by_status_and_namespace() -> None:
    state, _ = reduced({}, stamp())
    projection = project_file(KEY, state, "StampFile", OCCURRED_AT.astimezone(UTC))
    assert (projection.tag, projection.namespace) == ("stamped", "docs")
    assert projection.indices == {"file_hash": A, "file_size": 10}
    removed, _ = reduced(state, remove())
    assert project_file(KEY, removed, "RemoveFile", OCCURRED_AT).tag == "removed"


def test_totals_are_listed_in_their_namespace() -> None:
    totals = totals_after({}, reduced({}, stamp())[1])
    projection = project_namespace("namespace:docs", totals, "TotalsChanged", OCCURRED_AT)
    assert (projection.tag, projection.namespace) == ("totals", "docs")
    assert projection.indices == {"files": 1, "total_stamps": 1, "total_size_bytes": 10}


# -- the law: the totals are the sum over the files ------------------------------------------------


@dataclass
class Model:
    """What the totals have to be: the files that are stamped, and how many stamps there were."""

    files: dict[str, Action]
    stamps: int = 0

    def totals(self) -> State:
        content_types: State = {}
        for action in self.files.values():
            share = content_types.setdefault(
                action.payload["content_type"], {"files": 0, "bytes": 0}
            )
            share["files"] += 1
            share["bytes"] += action.payload["file_size"]
        return {
            "files": len(self.files),
            "total_stamps": self.stamps,
            "total_size_bytes": sum(share["bytes"] for share in content_types.values()),
            "content_types": content_types,
        }


# A hash stands for its contents, so for their size as well.
contents: Final = st.sampled_from([("a" * 64, 0), ("b" * 64, 5), ("c" * 64, 2**40)])
keys: Final = st.sampled_from([f"file:docs/{name}" for name in ("a", "b", "c/a", "c/b")])
stamps: Final = st.builds(
    lambda key, content, content_type: stamp(content[0], content[1], content_type, key=key),
    keys,
    contents,
    st.sampled_from(["text/plain", "image/png", "application/json"]),
)
removals: Final = st.builds(lambda key, content: remove(content[0], key=key), keys, contents)
requests: Final = st.lists(stamps | removals, max_size=40)


def fold(actions: list[Action]) -> tuple[Model, dict[str, deque[State]]]:
    """Apply `actions`; return what is stamped then, and each file's differences in their order."""
    model, states = Model({}), dict[str, State]()
    differences: dict[str, deque[State]] = {}
    for action in actions:
        key = action.workflow_key
        transition = reduce_file(deepcopy(states.get(key, {})), action)
        if isinstance(transition, Rejection):
            continue
        states[key] = dict(transition.state)
        differences.setdefault(key, deque()).append(transition.intents[0].payload["payload"])
        if action.type == "StampFile":
            model.files[key] = action
            model.stamps += 1
        else:
            del model.files[key]
    return model, differences


@given(requests, st.randoms(use_true_random=False))
def test_the_totals_are_the_sum_over_the_files_in_whatever_order_differences_arrive(
    actions: list[Action], dice: random.Random
) -> None:
    model, waiting = fold(actions)
    totals: State = {}
    while waiting:
        key = dice.choice(sorted(waiting))
        totals = totals_after(totals, waiting[key].popleft())
        assert totals["files"] >= 0
        assert totals["total_size_bytes"] >= 0
        for share in totals["content_types"].values():
            assert share["files"] > 0
            assert share["bytes"] >= 0
        if not waiting[key]:
            del waiting[key]
    assert totals == (model.totals() if totals else {})


@given(requests)
def test_the_number_of_stamps_never_falls(actions: list[Action]) -> None:
    _, differences = fold(actions)
    assert all(change["stamps"] in (0, 1) for queue in differences.values() for change in queue)


@given(requests)
def test_reducers_change_nothing_they_are_given_and_say_the_same_again(
    actions: list[Action],
) -> None:
    states: dict[str, State] = {}
    for action in actions:
        state, given_action = states.get(action.workflow_key, {}), deepcopy(action)
        given_state = deepcopy(state)
        transition = reduce_file(state, action)
        assert (state, action) == (given_state, given_action)
        assert reduce_file(state, action) == transition
        if isinstance(transition, Transition):
            states[action.workflow_key] = dict(transition.state)
