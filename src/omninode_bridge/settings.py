"""What the environment says, read once and validated.

Rule 1: nothing below the application reads the environment; whoever reads these hands them on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.infrastructure.kafka.place import KafkaPlace

_S = TypeVar("_S", bound=BaseSettings)

SCHEMES = ("postgresql://", "postgres://")
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_TOPIC_PREFIX: Final = re.compile(r"[a-zA-Z0-9._-]{0,150}")


def check_database_url(url: str) -> str:
    """Return `url` when it can name a PostgreSQL database.

    Raises:
        ValueError: saying what is wrong, but not repeating the URL, which may hold a password.
    """
    return _checked("a database URL", url, SCHEMES)


def check_redis_url(url: str) -> str:
    """Return `url` when it can name a Redis server.

    Raises:
        ValueError: as `check_database_url`.
    """
    return _checked("a Redis URL", url, REDIS_SCHEMES)


def check_kafka_bootstrap(bootstrap: str) -> str:
    """Return `bootstrap` when it can name a cluster's servers: `host:port`, more after commas.

    Raises:
        ValueError: saying what is wrong.
    """
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal():
            message = "the servers of a Kafka are host:port, more of them after commas"
            raise ValueError(message)
    return bootstrap


def check_kafka_prefix(prefix: str) -> str:
    """Return `prefix` when a topic's name can begin with it.

    Raises:
        ValueError: saying what is wrong.
    """
    if not _TOPIC_PREFIX.fullmatch(prefix):
        message = "the prefix of topics has up to 150 of the characters a-z, A-Z, 0-9, . _ -"
        raise ValueError(message)
    return prefix


def _checked(what: str, url: str, schemes: tuple[str, ...]) -> str:
    if not url.startswith(schemes):
        message = f"{what} begins with {schemes[0]}"
        raise ValueError(message)
    try:
        _ = urlsplit(url).port
    except ValueError:
        message = f"the port of {what} is a number"
        raise ValueError(message) from None  # the cause repeats what stands there
    return url


_CONFIG: Final = SettingsConfigDict(env_prefix="OMNINODE_", env_ignore_empty=True, frozen=True)


class Settings(BaseSettings):
    """What is set; a variable that is empty counts as unset.

    `OMNINODE_DATA_DIR` and `OMNINODE_DATABASE_URL` say where the database is.
    `ENABLE_PURE_REDUCER=false` takes the direct path: a transaction for each action.
    """

    model_config = _CONFIG

    data_dir: Path | None = None
    database_url: Annotated[str, AfterValidator(check_database_url)] | None = None
    enable_pure_reducer: bool = Field(default=True, validation_alias="ENABLE_PURE_REDUCER")


class RedisSettings(BaseSettings):
    """`OMNINODE_REDIS_URL`: apart, since it is read wherever the database is named."""

    model_config = _CONFIG

    redis_url: Annotated[str, AfterValidator(check_redis_url)] | None = None


class KafkaSettings(BaseSettings):
    """`OMNINODE_KAFKA_BOOTSTRAP`, and `OMNINODE_KAFKA_PREFIX` for a cluster that is shared."""

    model_config = _CONFIG

    kafka_bootstrap: Annotated[str, AfterValidator(check_kafka_bootstrap)] | None = None
    kafka_prefix: Annotated[str, AfterValidator(check_kafka_prefix)] = ""


def read_settings() -> Settings:
    """Read which database the environment names.

    Raises:
        ConfigurationError: a variable has a value that cannot work. The value itself is not
            repeated: a URL may hold a password.
    """
    return _read(Settings)


def read_redis_url() -> str | None:
    """Read which Redis the environment names; None: none.

    Raises:
        ConfigurationError: as `read_settings`.
    """
    return _read(RedisSettings).redis_url


def read_kafka() -> KafkaPlace | None:
    """Read which Kafka the environment names; None: none.

    Raises:
        ConfigurationError: as `read_settings`.
    """
    settings = _read(KafkaSettings)
    if settings.kafka_bootstrap is None:
        return None
    return KafkaPlace(settings.kafka_bootstrap, settings.kafka_prefix)


def _read(kind: type[_S]) -> _S:
    try:
        return kind()
    except ValidationError as error:
        said = [(_variable(kind, each["loc"][0]), each["msg"]) for each in error.errors()]
        raise ConfigurationError("; ".join(f"{name}: {why}" for name, why in said)) from None


def _variable(kind: type[BaseSettings], place: int | str) -> str:
    """Return the name of the variable that pydantic calls `place`: a field, or its alias."""
    return f"OMNINODE_{place.upper()}" if place in kind.model_fields else str(place)
