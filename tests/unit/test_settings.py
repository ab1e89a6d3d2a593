"""The environment is read once, and what it says wrongly is said back without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from omninode_bridge import ConfigurationError, KafkaPlace
from omninode_bridge.settings import read_kafka, read_redis_url, read_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMNINODE_DATA_DIR", raising=False)
    monkeypatch.delenv("OMNINODE_DATABASE_URL", raising=False)
    monkeypatch.delenv("ENABLE_PURE_REDUCER", raising=False)
    monkeypatch.delenv("OMNINODE_REDIS_URL", raising=False)
    monkeypatch.delenv("OMNINODE_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.delenv("OMNINODE_KAFKA_PREFIX", raising=False)


def test_without_variables_nothing_is_set() -> None:
    settings = read_settings()
    assert (settings.data_dir, settings.database_url) == (None, None)


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNINODE_DATA_DIR", "/somewhere/else")
    monkeypatch.setenv("OMNINODE_DATABASE_URL", "postgresql://me@there/db")
    settings = read_settings()
    assert settings.data_dir == Path("/somewhere/else")
    assert settings.database_url == "postgresql://me@there/db"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNINODE_DATABASE_URL", "")
    assert read_settings().database_url is None


def test_a_bad_variable_is_named_and_its_value_kept_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNINODE_DATABASE_URL", "mysql://me:secret@there/db")
    with pytest.raises(ConfigurationError, match="OMNINODE_DATABASE_URL") as caught:
        read_settings()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_reducer_is_pure_unless_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().enable_pure_reducer is True
    for text, meaning in (("false", False), ("0", False), ("true", True), ("", True)):
        monkeypatch.setenv("ENABLE_PURE_REDUCER", text)
        assert read_settings().enable_pure_reducer is meaning


def test_a_switch_is_called_by_its_own_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNINODE_ENABLE_PURE_REDUCER", "false")
    assert read_settings().enable_pure_reducer is True
    monkeypatch.setenv("ENABLE_PURE_REDUCER", "perhaps")
    with pytest.raises(ConfigurationError, match=r"^ENABLE_PURE_REDUCER: .*boolean"):
        read_settings()


def test_the_url_of_redis_is_read_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_redis_url() is None
    monkeypatch.setenv("OMNINODE_DATABASE_URL", "this is none")
    monkeypatch.setenv("OMNINODE_REDIS_URL", "redis://there:6379/1")
    assert read_redis_url() == "redis://there:6379/1"


@pytest.mark.parametrize("url", ["http://me:secret@there", "redis://me:secret@there:port"])
def test_a_bad_url_of_redis_is_named_and_kept_secret(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNINODE_REDIS_URL", url)
    with pytest.raises(ConfigurationError, match="OMNINODE_REDIS_URL") as caught:
        read_redis_url()
    assert "secret" not in str(caught.value)


def test_a_kafka_is_named_by_its_servers_and_its_topics_may_have_a_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_kafka() is None
    monkeypatch.setenv("OMNINODE_KAFKA_BOOTSTRAP", "one:9092,[::1]:9093")
    assert read_kafka() == KafkaPlace("one:9092,[::1]:9093")
    monkeypatch.setenv("OMNINODE_KAFKA_PREFIX", "staging.")
    assert read_kafka() == KafkaPlace("one:9092,[::1]:9093", "staging.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OMNINODE_KAFKA_BOOTSTRAP", "somewhere"),
        ("OMNINODE_KAFKA_BOOTSTRAP", "one:9092,"),
        ("OMNINODE_KAFKA_BOOTSTRAP", "kafka://one"),
        ("OMNINODE_KAFKA_PREFIX", "a b"),
        ("OMNINODE_KAFKA_PREFIX", "x" * 151),
    ],
)
def test_a_kafka_that_cannot_be_named_so_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        read_kafka()
