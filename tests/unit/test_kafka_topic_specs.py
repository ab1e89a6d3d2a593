"""A topic that is there is as it must be, or is named with what to change."""

from __future__ import annotations

import pytest

from omninode_bridge.core.errors import TopicUnfit
from omninode_bridge.core.topics import ACTION, STATE_COMMITTED, TOPICS
from omninode_bridge.infrastructure.kafka.topic_specs import (
    DAY_MS,
    FOR_EVER,
    TopicSpec,
    topic_specs,
)

KEPT = TopicSpec("kept", 4, FOR_EVER, 1_000)
PASSING = TopicSpec("passing", 4, DAY_MS, 1_000)


@pytest.mark.parametrize("spec", [KEPT, PASSING])
def test_a_topic_as_we_make_it_will_do(spec: TopicSpec) -> None:
    spec.check(4, spec.settings())


@pytest.mark.parametrize(
    ("spec", "changed"),
    [
        (KEPT, {"max.message.bytes": "1001"}),
        (PASSING, {"retention.ms": "-1"}),
        (PASSING, {"retention.ms": str(DAY_MS + 1)}),
    ],
)
def test_more_than_is_needed_will_do(spec: TopicSpec, changed: dict[str, str]) -> None:
    spec.check(4, spec.settings() | changed)


@pytest.mark.parametrize(
    ("spec", "setting", "value"),
    [
        (KEPT, "cleanup.policy", "compact"),
        (KEPT, "cleanup.policy", "compact,delete"),
        (KEPT, "retention.ms", "604800000"),
        (KEPT, "retention.bytes", "1000000000000"),
        (KEPT, "max.message.bytes", "999"),
        (PASSING, "retention.ms", str(DAY_MS - 1)),
    ],
)
def test_a_topic_that_loses_or_refuses_is_named(spec: TopicSpec, setting: str, value: str) -> None:
    with pytest.raises(TopicUnfit) as error:
        spec.check(4, spec.settings() | {setting: value})
    assert (error.value.topic, error.value.setting, error.value.actual) == (
        *(spec.name, setting, value),
    )
    assert f"--entity-name {spec.name} --add-config {setting}=" in str(error.value)


@pytest.mark.parametrize("partitions", [3, 5])
def test_another_number_of_partitions_would_mix_up_keys(partitions: int) -> None:
    with pytest.raises(TopicUnfit, match=f"is {partitions}, and the bridge needs 4"):
        KEPT.check(partitions, KEPT.settings())


def test_every_topic_that_is_carried_has_a_spec_and_history_stays() -> None:
    specs = {spec.name: spec for spec in topic_specs(8)}
    assert specs.keys() == TOPICS
    assert {spec.partitions for spec in specs.values()} == {8}
    assert specs[STATE_COMMITTED].retention_ms == specs[ACTION].retention_ms == FOR_EVER
