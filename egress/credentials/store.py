"""Holds the secrets that policies name, and renders a rule's injections for a request that may carry them.

Precedence, when a request may not carry a secret:

1. insecure: the request does not go over verified TLS, and is refused;
2. unbound: the secret's definition does not name this host and port; the request goes without the header;
3. unavailable: there is no usable value, and the request is refused.

A header is rendered whole or not at all.
"""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from egress.config import EnvSource, FileSource, allows
from egress.config.plain_sources import is_fetched
from egress.credentials.fetched import FetchedSecrets
from egress.credentials.rendered import Rendered
from egress.credentials.rendering import names_of, rendered_with
from egress.credentials.secret import Secret
from egress.credentials.seeking import Seeker
from egress.credentials.sources import FileReading, read_file, signature
from egress.credentials.start_checks import colliding, open_to_others, too_short, unusable
from egress.credentials.variables import Variables
from egress.errors import CredentialError
from egress.policy import OVER_TLS, Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from pathlib import Path

    from egress.config import SecretDefinition
    from egress.credentials.wanted import SecretService
    from egress.errors import Problem
    from egress.policy import Host, Injection, Request

_NOTHING = Rendered()
_SETTLED_AT_MOST = 1_024


@dataclass(frozen=True, slots=True)
class _Settled:
    """What a rule's injections came to for one host and port, and comes to again. `secret`: it holds one."""

    injections: tuple[Injection, ...]
    host: Host
    secret: bool
    rendered: Rendered

    def serves(self, injections: tuple[Injection, ...], request: Request, *, verified_tls: bool) -> bool:
        """Whether rendering would give the same again. The injections are held here, so their identity is theirs."""
        return (
            self.injections is injections
            and self.host == request.host
            and (not self.secret or (verified_tls and request.protocol in OVER_TLS))
        )


class CredentialStore:
    """The values of the defined secrets. Thread-safe.

    Variables are read here and now, so that they can then be taken out of the environment; files are read when a
    request needs them, and again after they change; what has to be fetched is had from who serves it. A secret without
    a usable value is no error here: its requests are refused, and `problems` says why.

    `fetched`: the secrets that have to be fetched; None: there are none.
    """

    def __init__(
        self,
        definitions: Mapping[str, SecretDefinition],
        *,
        env: Mapping[str, str],
        placeholders: Mapping[str, str] | None = None,
    ) -> None:
        self._definitions = dict(definitions)
        self._placeholders = dict(placeholders or {})
        # What finds placeholders; None where there are none, and nothing is to be looked for.
        self.seeker = Seeker(self._placeholders) if self._placeholders else None
        self._variables = Variables(self._definitions, env)
        self._files: dict[str, FileReading] = {}
        self._lock = threading.Lock()
        # By the identity of the rule's injections, host and port.
        self._settled: dict[tuple[int, str, int], _Settled] = {}
        fetched = FetchedSecrets(self._definitions, env)
        self.fetched = fetched if fetched.wanted else None

    def __repr__(self) -> str:
        return f"<CredentialStore {' '.join(sorted(self._definitions))}>"

    def reloaded(
        self,
        definitions: Mapping[str, SecretDefinition],
        *,
        env: Mapping[str, str],
        placeholders: Mapping[str, str] | None = None,
    ) -> CredentialStore:
        """A store for `definitions`, with the values of variables that `env` lost to `scrub_environment`."""
        store = CredentialStore(definitions, env=env, placeholders=placeholders)
        had = self._had()
        store._variables.had(had, env)
        if store.fetched is not None:
            store.fetched.had(had)
        return store

    def _had(self) -> dict[str, Secret]:
        """Every value of a variable that was ever read, whatever for."""
        return {**self._variables.ever, **({} if self.fetched is None else self.fetched.variables)}

    def hand_on(self) -> bytes:
        """The definitions and the values that came from variables, for `handed_on` in another of our own processes.

        The bytes hold values in clear: they go from memory to memory, over what nobody else can open, and are dropped.
        """
        variables = {} if self.fetched is None else self.fetched.variables
        named = {variable: value.reveal() for variable, value in variables.items()}
        return pickle.dumps((self._definitions, self._variables.hand_on(), self._placeholders, named))

    @classmethod
    def handed_on(cls, data: bytes) -> Self:
        """The store that `hand_on` of another process of ours wrote. Never for bytes from anywhere else."""
        definitions, values, placeholders, named = pickle.loads(data)  # noqa: S301 - a process that forked this one wrote it
        store = cls(definitions, env={}, placeholders=placeholders)
        if store.fetched is not None:
            store.fetched.had({variable: Secret(variable, value) for variable, value in named.items()})
        store._variables.handed_on(values)
        return store

    def keep_values_of(self, previous: CredentialStore) -> None:
        """Have the values that the store before this one ever read from variables, for a later `reloaded`."""
        self._variables.keep(previous._had())

    def scrub_environment(self, env: MutableMapping[str, str]) -> tuple[str, ...]:
        """Take the variables of secrets out of `env` (`os.environ`, then child processes lack them too).

        Returns the names of those that were there. `/proc/PID/environ` keeps showing what the process was started
        with, to its own user and root: see docs/guides/credentials.md.
        """
        variables = self._variables.named | (frozenset() if self.fetched is None else self.fetched.named)
        found = tuple(sorted(variables & env.keys()))
        for variable in found:
            del env[variable]
        return found

    def problems(self) -> tuple[Problem, ...]:
        """What keeps secrets from being used (`message`), one each, for the start-up log. Reads the files.

        What has to be fetched is told of by who fetches it.
        """
        fetched = {} if self.fetched is None else self.fetched.wanted
        return unusable({name: value for name, value in self._values().items() if name not in fetched})

    def warnings(self) -> tuple[Problem, ...]:
        """What works and should not stay so: values too short to be scrubbed, files that others can read.

        Reads the files.
        """
        values = self._values()
        found = too_short(values)
        for name, definition in self._definitions.items():
            if isinstance(definition.source, FileSource) and isinstance(values[name], Secret):
                reading = self._files.get(name)
                if reading is not None and reading.open_to_others:
                    found.append(open_to_others(name, definition.source.path))
        return tuple(found)

    def known(self) -> tuple[Secret, ...]:
        """The values read so far, for `redact_logs`."""
        with self._lock:
            files = [reading.secret for reading in self._files.values()]
        fetched = [] if self.fetched is None else self.fetched.secrets()
        return tuple(
            value for value in (*self._variables.values.values(), *files, *fetched) if isinstance(value, Secret)
        )

    def serve(self, service: SecretService) -> None:
        """Have what must be fetched from `service`, which begins with it now."""
        service.expect(() if self.fetched is None else self.fetched.wanted.values())
        if self.fetched is not None:
            self.fetched.service = service

    async def fetch_for(self, names: Sequence[str], request: Request, *, verified_tls: bool) -> None:
        """Have the values of these fetched first, and wait for it: only of those that may then be sent."""
        if self.fetched is not None and self._refuse(names, request, verified_tls=verified_tls) is None:
            await self.fetched.fetch([name for name in names if self._is_bound(name, request)])

    def placeholder(self, name: str) -> str | None:
        """What the sandbox holds in place of the secret; None if it has none."""
        return self._placeholders.get(name)

    def collisions(self) -> tuple[Problem, ...]:
        """Placeholders that cannot be told from one another, or from a value. Reads the files."""
        return colliding(self._placeholders, self._values()) if self._placeholders else ()

    def is_bound(self, name: str, request: Request) -> bool:
        """Whether a secret may go with this request, whatever a policy says."""
        return name in self._definitions and self._is_bound(name, request)

    def preflight(self, injections: tuple[Injection, ...], request: Request) -> Refusal | None:
        """What `render` would refuse whatever the upstream's certificate: to ask before anything is dialled."""
        result = self.render(injections, request, verified_tls=True)
        return result if isinstance(result, Refusal) else None

    def render(self, injections: tuple[Injection, ...], request: Request, *, verified_tls: bool) -> Rendered | Refusal:
        """The headers that `injections` set on `request`, or why it must not be sent.

        `verified_tls`: the upstream's certificate was verified for the request's host. Injections of plain text need
        none. INVARIANT secret-confinement: a value is rendered only for a host that its definition names, over
        verified TLS.
        """
        if not injections:
            return _NOTHING
        place = (id(injections), request.host.text, request.port)
        settled = self._settled.get(place)
        if settled is not None and settled.serves(injections, request, verified_tls=verified_tls):
            return settled.rendered
        rendered = self._render(injections, request, verified_tls=verified_tls)
        names = names_of(injections)
        if isinstance(rendered, Rendered) and all(map(self._is_alike, names)):
            if len(self._settled) >= _SETTLED_AT_MOST:
                self._settled.clear()
            self._settled[place] = _Settled(injections, request.host, bool(names), rendered)
        return rendered

    def value_for(self, name: str, request: Request, *, verified_tls: bool) -> Secret | Refusal | None:
        """The value for `request`, None where it may not go there, or why the request must not be sent."""
        refusal = self._refuse((name,), request, verified_tls=verified_tls)
        if refusal is not None:
            return refusal
        value = self._value(name) if self._is_bound(name, request) else None
        return _unavailable(name) if isinstance(value, CredentialError) else value

    def _render(self, injections: tuple[Injection, ...], request: Request, *, verified_tls: bool) -> Rendered | Refusal:
        wanted = names_of(injections)
        refusal = self._refuse(wanted, request, verified_tls=verified_tls)
        if refusal is not None:
            return refusal
        values: dict[str, Secret] = {}
        for name in wanted:
            value = self._value(name) if self._is_bound(name, request) else None
            if isinstance(value, CredentialError):
                return _unavailable(name)
            if value is not None:
                values[name] = value
        return rendered_with(injections, values)

    def _refuse(self, names: Sequence[str], request: Request, *, verified_tls: bool) -> Refusal | None:
        for name in names:
            if not verified_tls or request.protocol not in OVER_TLS:
                return Refusal(Reason.CREDENTIAL_INSECURE, f"the secret `{name}` goes over verified TLS only")
            if name not in self._definitions:
                return Refusal(Reason.CREDENTIAL_UNAVAILABLE, f"the secret `{name}` is not defined")
        return None

    def _is_bound(self, name: str, request: Request) -> bool:
        definition = self._definitions[name]
        if not allows(definition, request):
            return False
        # What comes of our own store has a binding there, which holds as well.
        return not is_fetched(definition.source) or (self.fetched is not None and self.fetched.is_bound(name, request))

    def _is_alike(self, name: str) -> bool:
        """Whether what the secret comes to for a host and port is the same each time.

        A file's value may be another one next time; who is bound to methods or paths depends on the request.
        """
        definition = self._definitions.get(name)
        return (
            name in self._variables.values
            and definition is not None
            and definition.methods is None
            and definition.paths is None
        )

    def _values(self) -> dict[str, Secret | CredentialError]:
        return {name: self._value(name) for name in self._definitions}

    def _value(self, name: str) -> Secret | CredentialError:
        source = self._definitions[name].source
        match source:
            case EnvSource():
                return self._variables.values[name]
            case FileSource(path=path):
                return self._read_changed(name, path)
            case _:
                usable = None if self.fetched is None else self.fetched.value(name)
                return CredentialError(f"secret `{name}`: it is not fetched") if usable is None else usable.secret

    def _read_changed(self, name: str, path: Path) -> Secret | CredentialError:
        with self._lock:
            try:
                known = self._files.get(name)
                if known is not None and known.signature is not None and known.signature == signature(path.stat()):
                    return known.secret
                self._files[name] = read_file(name, path)
            except CredentialError as error:
                # The old value is not used any more: who took the file away meant it.
                self._files.pop(name, None)
                return error
            except OSError as error:
                self._files.pop(name, None)
                return CredentialError(f"secret `{name}`: cannot open file `{path}`: {error.strerror}")
            return self._files[name].secret


def _unavailable(name: str) -> Refusal:
    # The detail goes to the sandbox: the store's own places stay in the log.
    return Refusal(Reason.CREDENTIAL_UNAVAILABLE, f"the secret `{name}` has no usable value")
