"""What the user declares: key types with their reducers and projections, effects, workflows."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omninode_bridge.core.effect_types import BACKOFF, CONCURRENCY, TIMEOUT_S, EffectType
from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.core.orchestration import RunContract
from omninode_bridge.core.our_key_types import OUR_KEY_TYPES
from omninode_bridge.core.projection import project_plainly
from omninode_bridge.core.reducer import KeyType
from omninode_bridge.core.retry import Backoff
from omninode_bridge.infrastructure.contracts import read_run_contract, run_contract_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from omninode_bridge.core.effect_types import Handle
    from omninode_bridge.core.projection import Project
    from omninode_bridge.core.reducer import Reducer

_R = TypeVar("_R", bound="Reducer")
_P = TypeVar("_P", bound="Project")
_H = TypeVar("_H", bound="Handle")


class App:
    """A set of key types: their reducers and projections. Declared once, used by any bridge."""

    def __init__(self, name: str) -> None:
        """`name` appears in logs and leases."""
        self.name = name
        self._reducers: dict[str, dict[int, tuple[Reducer, bool]]] = {}
        self._projections: dict[str, Project] = {}
        self._effects: dict[str, EffectType] = {}
        self._contracts: dict[str, RunContract] = {}

    def reducer(
        self, key_type: str, *, version: int = 1, fenced: bool = False
    ) -> Callable[[_R], _R]:
        """Declare the reducer of the keys `key_type:...`.

        The highest `version` reduces new actions; the others stay for `verify`, which folds history
        with the version that made it. `fenced` keys refuse actions of an epoch that is past.

        Raises:
            ConfigurationError: a malformed key type, one of the bridge's own, or one declared
                twice in the same version.
        """
        if not key_type or ":" in key_type or "\0" in key_type:
            message = f"a key type is text without a colon, not {key_type!r}"
            raise ConfigurationError(message)
        if key_type in OUR_KEY_TYPES:
            message = f"keys {key_type}:... are the bridge's own: choose another type"
            raise ConfigurationError(message)
        if version < 1:
            message = f"the reducer of {key_type!r}: version must be at least 1, not {version}"
            raise ConfigurationError(message)

        def declare(reduce: _R) -> _R:
            versions = self._reducers.setdefault(key_type, {})
            if version in versions:
                message = f"version {version} of the reducer of {key_type!r} is declared twice"
                raise ConfigurationError(message)
            versions[version] = (reduce, fenced)
            return reduce

        return declare

    def projection(self, key_type: str) -> Callable[[_P], _P]:
        """Declare the projection of the keys `key_type:...`.

        Raises:
            ConfigurationError: when the key type has one already.
        """

        def declare(project: _P) -> _P:
            if key_type in self._projections:
                message = f"the projection of {key_type!r} is declared twice"
                raise ConfigurationError(message)
            self._projections[key_type] = project
            return project

        return declare

    def effect(
        self,
        name: str,
        *,
        attempts: int = BACKOFF.attempts,
        base_ms: float = BACKOFF.base_ms,
        cap_ms: float = BACKOFF.cap_ms,
        timeout: float = TIMEOUT_S,
        concurrency: int = CONCURRENCY,
        ordered: bool = False,
        transactional: bool = False,
    ) -> Callable[[_H], _H]:
        """Declare the handler that carries out the intents of type `name`.

        It is an async function of an `EffectCall`, and returns None, a dict or an `EffectResult`.
        It is called at least once for each intent, with the intent's id as idempotency key, up to
        `attempts` times with a jittered wait of `base_ms` to `cap_ms` between two, and `timeout`
        seconds for each; after the last, or when it raises `EffectRefused`, the intent is a dead
        letter. At most `concurrency` calls are under way in a process. `ordered`: those of one key
        one after another. `transactional`: it is given the database connection as well, and what
        it writes there is committed together with the end of the effect: exactly once.

        Raises:
            ConfigurationError: a name declared twice, a bound that makes no sense, or a handler
                that is not async.
        """

        def declare(handle: _H) -> _H:
            if name in self._effects:
                message = f"the effect {name!r} is declared twice"
                raise ConfigurationError(message)
            try:
                backoff = Backoff(attempts, base_ms, cap_ms)
                effect_type = EffectType(
                    name, handle, backoff, timeout, concurrency, ordered, transactional
                )
            except ValueError as error:
                message = f"the effect {name!r}: {error}"
                raise ConfigurationError(message) from error
            if not (iscoroutinefunction(handle) or iscoroutinefunction(type(handle).__call__)):
                # It would act, and then be taken to have failed: there is nothing to await.
                message = f"the effect {name!r}: its handler must be declared with async def"
                raise ConfigurationError(message)
            self._effects[name] = effect_type
            return handle

        return declare

    def workflow(self, contract: RunContract | Mapping[str, Any] | Path | str) -> RunContract:
        """Declare a contract of steps, so that `Bridge.run` knows it by its name; return it.

        `contract` is the file with it (YAML or JSON), or the contract itself.

        Raises:
            ContractError: it cannot work; the message names the line.
            ConfigurationError: its name is declared with another content.
        """
        declared = contract_from(contract)
        if self._contracts.setdefault(declared.name, declared) != declared:
            message = f"the workflow {declared.name!r} is declared twice, with other content"
            raise ConfigurationError(message)
        return declared

    def workflows(self) -> dict[str, RunContract]:
        """Return the contracts by name."""
        return dict(self._contracts)

    def include(self, other: App) -> None:
        """Take over everything that `other` declares.

        Raises:
            ConfigurationError: when both declare the same.
        """
        for key_type, versions in other._reducers.items():
            for version, (reduce, fenced) in versions.items():
                self.reducer(key_type, version=version, fenced=fenced)(reduce)
        for key_type, project in other._projections.items():
            self.projection(key_type)(project)
        for name, effect_type in other._effects.items():
            if name in self._effects:
                message = f"the effect {name!r} is declared twice"
                raise ConfigurationError(message)
            self._effects[name] = effect_type
        for contract in other._contracts.values():
            self.workflow(contract)

    def effect_types(self) -> dict[str, EffectType]:
        """Return the effects by the type of their intents."""
        return dict(self._effects)

    def key_types(self) -> dict[str, KeyType]:
        """Return the key types by name, each in its highest version."""
        return {name: self._key_type(name, max(versions)) for name, versions in self._all()}

    def every_version(self) -> dict[tuple[str, int], KeyType]:
        """Return the key types by name and version."""
        return {
            (name, version): self._key_type(name, version)
            for name, versions in self._all()
            for version in versions
        }

    def _all(self) -> Iterable[tuple[str, Mapping[int, object]]]:
        orphans = self._projections.keys() - self._reducers.keys()
        if orphans:
            message = f"projections without a reducer: {', '.join(sorted(orphans))}"
            raise ConfigurationError(message)
        return self._reducers.items()

    def _key_type(self, name: str, version: int) -> KeyType:
        reduce, fenced = self._reducers[name][version]
        project = self._projections.get(name, project_plainly)
        return KeyType(name, version, reduce, project, fenced)


def contract_from(given: RunContract | Mapping[str, Any] | Path | str) -> RunContract:
    """Return the contract that is given: as a file's path (YAML or JSON), or as it is.

    Raises:
        ContractError: it cannot work; the message names the line.
    """
    match given:
        case RunContract():
            return given
        case Mapping():
            return run_contract_of(given)
        case _:
            return read_run_contract(Path(given))
