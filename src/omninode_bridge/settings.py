"""What the environment says, read once and validated.

Rule 1: nothing below the application reads the environment; whoever reads these hands them on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from omninode_bridge.core.errors import ConfigurationError

SCHEMES = ("postgresql://", "postgres://")


def check_database_url(url: str) -> str:
    """Return `url` when it can name a PostgreSQL database.

    Raises:
        ValueError: saying what is wrong, but not repeating the URL, which may hold a password.
    """
    if not url.startswith(SCHEMES):
        message = f"a database URL begins with {SCHEMES[0]}"
        raise ValueError(message)
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        message = "the port of a database URL is a number"
        raise ValueError(message) from error
    return url


class Settings(BaseSettings):
    """What is set; a variable that is empty counts as unset.

    `OMNINODE_DATA_DIR` and `OMNINODE_DATABASE_URL` say where the database is.
    `ENABLE_PURE_REDUCER=false` takes the direct path: a transaction for each action.
    """

    model_config = SettingsConfigDict(env_prefix="OMNINODE_", env_ignore_empty=True, frozen=True)

    data_dir: Path | None = None
    database_url: Annotated[str, AfterValidator(check_database_url)] | None = None
    enable_pure_reducer: bool = Field(default=True, validation_alias="ENABLE_PURE_REDUCER")


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        ConfigurationError: a variable has a value that cannot work. The value itself is not
            repeated: a URL may hold a password.
    """
    try:
        return Settings()
    except ValidationError as error:
        what = "; ".join(f"{_variable(each['loc'][0])}: {each['msg']}" for each in error.errors())
        raise ConfigurationError(what) from None


def _variable(place: int | str) -> str:
    """Return the name of the variable that pydantic calls `place`: a field, or its alias."""
    return f"OMNINODE_{place.upper()}" if place in Settings.model_fields else str(place)
