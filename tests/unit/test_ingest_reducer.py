"""What a contract makes of its keys, folded as the worker folds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge import Action, Rejection, Transition
from omninode_bridge.ingest import Contract, ContractError, app_of, contracts
from omninode_bridge.ingest.contract import restore_contract

if TYPE_CHECKING:
    from collections.abc import Sequence

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def contract(
    *, name: str = "parcel", version: int = 1, key: str = "parcel:{n}", unmatched: str = "keep"
) -> Contract:
    document = {
        "name": name,
        "version": version,
        "namespace": f"post-{version}",
        "key": key,
        "action_type": "{event}",
        "occurred_at": "{at}",
        "state_machine": {
            "initial": "NEW",
            "unmatched": unmatched,
            "states": ["NEW", "SENT", "LOST"],
            "transitions": [
                {"trigger": "Posted", "from": ["NEW"], "to": "SENT"},
                {"trigger": "Missed", "from": ["*"], "to": "LOST"},
            ],
        },
    }
    return restore_contract(document, f"{name}.yaml")


def action(action_type: str, occurred_at: datetime = NOON) -> Action:
    return Action(UUID(int=1), "parcel:1", action_type, {}, occurred_at)


def fold(given: Contract, actions: Sequence[Action]) -> dict[str, Any]:
    reduce = app_of([given]).key_types()["parcel"].reduce
    state: dict[str, Any] = {}
    for each in actions:
        transition = reduce(state, each)
        assert isinstance(transition, Transition)
        state = dict(transition.state)
    return state


def test_the_first_action_of_a_key_begins_at_the_initial_state() -> None:
    assert fold(contract(), [action("Posted")]) == {
        "status": "SENT",
        "counts": {"Posted": 1},
        "first_at": "2026-03-02T12:00:00+00:00",
        "last_at": "2026-03-02T12:00:00+00:00",
    }


def test_an_unmatched_action_is_counted_and_leaves_the_status_alone() -> None:
    state = fold(contract(), [action(t) for t in ("Weighed", "Posted", "Posted", "Weighed")])
    assert state["status"] == "SENT"
    assert state["counts"] == {"Weighed": 2, "Posted": 2}


def test_an_unmatched_action_is_rejected_when_the_contract_says_so_and_told_what_could_be() -> None:
    reduce = app_of([contract(unmatched="reject")]).key_types()["parcel"].reduce
    assert reduce({}, action("Weighed")) == Rejection(
        "'Weighed' is not allowed in NEW, only Missed, Posted"
    )


@given(st.lists(st.datetimes(timezones=st.timezones()), min_size=1, max_size=5))
def test_times_are_the_earliest_and_the_latest_whatever_the_order_and_offsets(
    times: list[datetime],
) -> None:
    later = [t for t in times if t.year not in (1, 9999)] or [NOON]
    state = fold(contract(), [action("Weighed", t) for t in later])
    # In one zone Python compares what the clock on the wall showed, in the hour that is twice too.
    moments = [t.astimezone(UTC) for t in later]
    assert datetime.fromisoformat(state["first_at"]) == min(moments)
    assert datetime.fromisoformat(state["last_at"]) == max(moments)


def test_a_time_is_kept_in_utc() -> None:
    at = datetime(2026, 3, 2, 0, 30, 0, 500, timezone(timedelta(hours=1)))
    state = fold(contract(), [action("Weighed", at)])
    assert state["first_at"] == "2026-03-01T23:30:00.000500+00:00"


def test_the_tag_is_the_status_in_the_namespace_of_the_contract() -> None:
    key_type = app_of([contract()]).key_types()["parcel"]
    projection = key_type.project("parcel:1", {"status": "SENT"}, "Posted", NOON)
    assert (projection.tag, projection.namespace) == ("SENT", "post-1")


def test_the_newest_version_reduces_and_shows_and_the_old_ones_stay() -> None:
    app = app_of([contract(version=3), contract(version=1), contract(version=2)])
    key_type = app.key_types()["parcel"]
    assert key_type.version == 3
    assert key_type.project("parcel:1", {"status": "SENT"}, "Posted", NOON).namespace == "post-3"
    assert {v for kind, v in app.every_version() if kind == "parcel"} == {1, 2, 3}
    assert "contract" in app.key_types()


def test_a_contract_may_be_given_twice() -> None:
    assert app_of([contract(), contract()]).key_types().keys() == {"parcel", "contract"}


def test_one_version_with_two_contents_is_refused() -> None:
    with pytest.raises(ContractError, match=r"parcel\.yaml:1: version 1 .* raise 'version'"):
        app_of([contract(), contract(unmatched="reject")])


def test_two_contracts_never_share_keys() -> None:
    app_of([contract(), contract(name="letter", key="letter:{n}")])
    with pytest.raises(ContractError, match=r"letter\.yaml:1: .* belong to the contract 'parcel'"):
        app_of([contract(), contract(name="letter")])


def test_contracts_keep_every_version_once() -> None:
    reduce = contracts.key_types()["contract"].reduce

    def stored(document: dict[str, Any]) -> Action:
        return Action(UUID(int=1), "contract:parcel", "ContractStored", document, NOON)

    state: dict[str, Any] = {}
    for version in (1, 2, 1):
        transition = reduce(state, stored(contract(version=version).as_dict()))
        assert isinstance(transition, Transition)
        state = dict(transition.state)
    assert state["name"] == "parcel"
    assert state["versions"].keys() == {"1", "2"}
    changed = reduce(state, stored(contract(unmatched="reject").as_dict()))
    assert isinstance(changed, Rejection)
    assert "raise 'version'" in changed.reason
    other = reduce(state, Action(UUID(int=1), "contract:parcel", "Other", {}, NOON))
    assert isinstance(other, Rejection)


def test_contracts_show_their_newest_version() -> None:
    project = contracts.key_types()["contract"].project
    versions: dict[str, Any] = {"9": {}, "10": {}}
    projection = project("contract:a", {"name": "a", "versions": versions}, "ContractStored", NOON)
    assert (projection.tag, projection.namespace) == ("10", "contracts")
