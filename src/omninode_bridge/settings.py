"""What the environment says, read once and validated.

Rule 1: nothing below the application reads the environment; whoever reads these hands them on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from omninode_bridge.core.errors import ConfigurationError

_S = TypeVar("_S", bound=BaseSettings)

SCHEMES = ("postgresql://", "postgres://")
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


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


def _read(kind: type[_S]) -> _S:
    try:
        return kind()
    except ValidationError as error:
        what = "; ".join(f"{_variable(each['loc'][0])}: {each['msg']}" for each in error.errors())
        raise ConfigurationError(what) from None


def _variable(place: int | str) -> str:
    """Return the name of the variable that pydantic calls `place`: a field, or its alias."""
    return f"OMNINODE_{place.upper()}" if place in Settings.model_fields else str(place)
