"""Loads the server's configuration: flags over environment over `egress.yaml` over defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pydantic_core import PydanticCustomError

from egress.config.admin import AdminConfig, admin_problem
from egress.config.checking import check
from egress.config.dns import DnsConfig
from egress.config.dns_model import dns_config, read_dns_listen, whole_problems
from egress.config.document import read_document
from egress.config.home import home
from egress.config.identity_model import identity_config, identity_problems
from egress.config.listening import told_listener
from egress.config.pins import PinError, make_pin, parse_pin
from egress.config.proxy_model import read_proxy_url
from egress.config.reading import read_text
from egress.config.roads_model import clashes, read_forwards, read_redirected
from egress.config.sandboxes import SandboxReader
from egress.config.secret_definitions import read_secrets
from egress.config.secrets_key import stated_key
from egress.config.server_config import (
    DEFAULT_LISTEN,
    AuditConfig,
    Durability,
    Forward,
    Limits,
    MitmStart,
    ServerConfig,
    ServerOverrides,
    TransparentConfig,
    UpstreamConfig,
)
from egress.config.server_fields import read_listen
from egress.config.server_model import (
    AuditModel,
    LimitsModel,
    ServerModel,
    UpstreamModel,
    read_lane,
    read_mitm,
    read_workers,
)
from egress.config.socket_fields import place_all
from egress.config.sources import PolicySource, find_policy, with_policies
from egress.config.stream_model import StreamConfig, read_stream_address
from egress.config.upstream_proxy import UpstreamProxy
from egress.config.wording import printable
from egress.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress.config.document import Document
    from egress.config.identity import IdentityConfig
    from egress.config.listening import ListenAddress
    from egress.config.proxy_model import ProxyModel
    from egress.config.sandboxes_model import SandboxDefinition
    from egress.config.secrets_key import KeySource
    from egress.config.secrets_model import SecretDefinition
    from egress.config.wording import Place
    from egress.policy import Address

# What a file could say that says nothing yet.
_BEGIN: Final = (f"listen: {told_listener(DEFAULT_LISTEN)}", "which is the default")
_ROOT_STATE = Path("/var/lib/egress")


def default_state_dir(env: Mapping[str, str], *, user: int | None = None) -> Path:
    """`$EGRESS_STATE_DIR`, else `/var/lib/egress` for root, else the XDG state folder. `user` None: this process's."""
    if env.get("EGRESS_STATE_DIR"):
        return Path(env["EGRESS_STATE_DIR"])
    if (os.geteuid() if user is None else user) == 0:
        return _ROOT_STATE
    folder = env.get("XDG_STATE_HOME", "")
    # The XDG specification: a path that is not absolute is to be ignored.
    if folder.startswith("/"):
        return Path(folder) / "egress"
    return home(env, "name the state folder: `--state-dir`, or EGRESS_STATE_DIR") / ".local" / "state" / "egress"


def load_server_config(path: Path | None, overrides: ServerOverrides, env: Mapping[str, str]) -> ServerConfig:
    """The configuration of `path` (None: no file) under flags and environment.

    Paths of the file are taken from its folder. Raises ConfigError with every problem.
    """
    merge = _Merge(overrides, path.parent if path else Path())
    if path is not None:
        merge.read(path)
    config = merge.result(env)
    if merge.problems:
        raise ConfigError(merge.problems)
    return replace(config, file=path)


@dataclass(slots=True)
class _Merge:
    overrides: ServerOverrides
    folder: Path
    document: Document | None = None
    model: ServerModel = field(default_factory=lambda: ServerModel.model_validate({}))
    secrets: dict[str, SecretDefinition] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Read the file into `model` and `secrets`."""
        found = read_text(path)
        self.problems.extend(found.problems)
        if found.text is None:
            return
        self.document, problems = read_document(found.text, printable(str(path)), _BEGIN)
        self.problems.extend(problems)
        if self.document is None:
            return
        top = {key: value for key, value in self.document.data.items() if key != "secrets"}
        model, problems = check(ServerModel, top, self.document, (), "server")
        self.problems.extend(problems)
        self.model = model or self.model
        secrets, problems = read_secrets(self.document.data.get("secrets"), self.document, self.folder)
        self.problems.extend(problems)
        self.secrets = {name: definition for name, definition in secrets.items() if definition is not None}

    def result(self, env: Mapping[str, str]) -> ServerConfig:
        """All of it together."""
        flags, model = self.overrides, self.model
        state_dir = flags.state_dir or self._state_dir(env)
        listens = self._listens()
        forwards, transparent = self._forwards(), self._transparent()
        self._check_doors(listens, forwards, transparent)
        redirected = () if transparent is None else transparent.listens
        doors = (*listens, *(forward.listen for forward in forwards), *redirected)
        dns = self._dns()
        return ServerConfig(
            listen=listens[0],
            also_listen=listens[1:],
            sandboxes=self._sandboxes((*doors, *dns.listen), env),
            state_dir=state_dir,
            audit=self._audit(model.audit or AuditModel.model_validate({}), state_dir),
            ca_dir=flags.ca_dir or self._path(model.ca_dir) or state_dir / "ca",
            upstream=self._upstream(model.upstream or UpstreamModel.model_validate({})),
            resolve=self._resolve(),
            policies=self._policies(),
            presets=self._presets(),
            limits=_limits(model.limits),
            secrets=self.secrets,
            workers=self._flag("--workers", flags.workers, read_workers, model.workers) or 1,
            mitm=self._flag("--mitm", flags.mitm, read_mitm, model.mitm) or MitmStart.LAZY,
            lane=self._flag("--lane", flags.lane, read_lane, model.lane),
            watch=_stated(flag=flags.watch, file=model.watch),
            last_known_good=_stated(flag=flags.last_known_good, file=model.last_known_good),
            secrets_key=self._secrets_key(),
            identity=self._identity(doors),
            forwards=forwards,
            transparent=transparent,
            deny_page=model.deny_page,
            dns=dns,
            admin=self._admin((*doors, *dns.listen)),
        )

    def _listens(self) -> tuple[ListenAddress, ...]:
        given = cast("ListenAddress | None", self._flag("--listen", self.overrides.listen, read_listen, None))
        named: list[ListenAddress] = [given] if given is not None else [*(self.model.listen or [DEFAULT_LISTEN])]
        found, wrong = place_all(named, self.folder if given is None else Path())
        for index, message, hint in wrong:
            if given is None:
                self._problem(("listen", index), message, hint)
            else:
                self.problems.append(Problem("--listen", None, "", message, hint))
        return found

    def _forwards(self) -> tuple[Forward, ...]:
        found, mistakes = read_forwards(self.model.forwards or {}, self.folder)
        for place, message, hint in mistakes:
            self._problem(("forwards", *place), message, hint)
        return found

    def _transparent(self) -> TransparentConfig | None:
        """The flag says where; how stays the file's."""
        stated = self.model.transparent
        given = [self._flag("--transparent", text, read_redirected, None) for text in self.overrides.transparent]
        addresses = [address for address in given if address is not None] or ([] if stated is None else stated.listen)
        if not addresses:
            return None
        named = TransparentConfig(tuple(dict.fromkeys(addresses)))
        return named if stated is None else replace(named, mode=stated.mode)

    def _check_doors(
        self, listens: tuple[ListenAddress, ...], forwards: tuple[Forward, ...], transparent: TransparentConfig | None
    ) -> None:
        for key, address in clashes(listens, forwards, transparent):
            message, hint = f"{told_listener(address)} serves something else already", "name another address or port"
            if key == "transparent" and self.overrides.transparent:
                self.problems.append(Problem("--transparent", None, "", message, hint))
            else:
                self._problem((key,), message, hint)

    def _sandboxes(self, listens: tuple[ListenAddress, ...], env: Mapping[str, str]) -> tuple[SandboxDefinition, ...]:
        if self.document is None or not self.model.sandboxes:
            return ()
        reader = SandboxReader(self.document, self.folder, listens, env, self._find)
        found = reader.read(self.model.sandboxes)
        self.problems.extend(reader.problems)
        return found

    def _identity(self, listens: tuple[ListenAddress, ...]) -> IdentityConfig | None:
        if self.document is None or self.model.identity is None:
            return None
        found = identity_config(self.model.identity, self.document)
        self.problems.extend(identity_problems(found, listens, self.document))
        return found

    def _dns(self) -> DnsConfig:
        found = DnsConfig()
        if self.document is not None and self.model.dns is not None:
            found, problems = dns_config(self.model.dns, self.document)
            self.problems.extend(problems)
        given = self._flag("--dns", self.overrides.dns, read_dns_listen, None)
        if given is None:
            return found
        found = replace(found, listen=(given,))
        self.problems += [Problem("--dns", None, "", message, hint) for _, message, hint in whole_problems(found)]
        return found

    def _admin(self, listens: tuple[ListenAddress, ...]) -> AdminConfig | None:
        """The flag says where; who may ask there stays the file's."""
        stated = None if self.model.admin is None else self.model.admin.config()
        given = cast("ListenAddress | None", self._flag("--admin", self.overrides.admin, read_listen, None))
        named = given if given is not None else None if stated is None else stated.listen
        if named is None:
            return None
        (placed,), wrong = place_all([named], self.folder if given is None else Path())
        found = AdminConfig(placed) if stated is None else replace(stated, listen=placed)
        identity = () if self.model.identity is None else (self.model.identity.listen,)
        problem = wrong[0][1:] if wrong else admin_problem(found, (*listens, *identity))
        if problem is not None and given is None:
            self._problem(("admin",), *problem)
        elif problem is not None:
            self.problems.append(Problem("--admin", None, "", *problem))
        return found

    def _secrets_key(self) -> KeySource | None:
        found = stated_key(self.overrides.secrets_key_file, self.model.secrets_key, self.folder)
        if isinstance(found, str):
            self._problem(("secrets_key",), found, "write `secrets_key: {file: /etc/egress/secrets.key}`")
        return None if isinstance(found, str) else found

    def _state_dir(self, env: Mapping[str, str]) -> Path:
        if not env.get("EGRESS_STATE_DIR"):
            named = self._path(self.model.state_dir)
            if named is not None:
                return named
        return default_state_dir(env)

    def _path(self, text: str | None) -> Path | None:
        return None if text is None else self.folder / text

    def _flag[Value](
        self, name: str, given: object, read: Callable[[object], Value | None], stated: Value | None
    ) -> Value | None:
        """What the flag says if it is given, else what the file states; a flag that cannot be read is a problem."""
        if given is None:
            return stated
        try:
            return read(given)
        except PydanticCustomError as error:
            context = error.context or {}
            self.problems.append(Problem(name, None, "", str(context["message"]), str(context["hint"])))
            return stated

    def _audit(self, model: AuditModel, state_dir: Path) -> AuditConfig:
        path = self.overrides.audit or self._path(model.path) or state_dir / "audit.db"
        stated = model.model_dump(exclude_none=True, exclude={"path", "stream"})
        durability = Durability(stated.pop("durability", Durability.NORMAL))
        return AuditConfig(path=path, stream=self._stream(model), durability=durability, **stated)

    def _stream(self, model: AuditModel) -> StreamConfig | None:
        """The flag says where to; how stays the file's."""
        stated = None if model.stream is None else model.stream.config()
        to = self._flag("--audit-stream", self.overrides.audit_stream, read_stream_address, None)
        if to is None:
            return stated
        return StreamConfig(to) if stated is None else replace(stated, to=to)

    def _upstream(self, model: UpstreamModel) -> UpstreamConfig:
        roots = [*(self.folder / text for text in model.ca or ()), *self.overrides.upstream_ca]
        return UpstreamConfig(ca=tuple(dict.fromkeys(roots)), via=bool(model.via), proxy=self._proxy(model.proxy))

    def _proxy(self, model: ProxyModel | None) -> UpstreamProxy | None:
        """The flag says where it is; the rest stays the file's."""
        stated = None if model is None else model.url
        address = self._flag("--upstream-proxy", self.overrides.upstream_proxy, read_proxy_url, stated)
        if model is None:
            return None if address is None else UpstreamProxy(address)
        wrong = model.problem(address)
        if wrong is not None or address is None:
            key, message, hint = wrong or ("", "", "")
            self._problem(("upstream", "proxy", key) if key else ("upstream", "proxy"), message, hint)
            return None
        return model.proxy(address, self.folder)

    def _presets(self) -> tuple[Path, ...]:
        folders = [*(self.folder / text for text in self.model.presets or ()), *self.overrides.presets]
        return tuple(dict.fromkeys(folders))

    def _resolve(self) -> dict[str, tuple[Address, ...]]:
        pins: dict[str, tuple[Address, ...]] = {}
        for name, addresses in (self.model.resolve or {}).items():
            pin = make_pin(name, addresses)
            if isinstance(pin, PinError):
                self._problem(("resolve", name), pin.message, "write `db.corp.example: 10.1.2.3`")
            else:
                pins[pin.name] = pin.addresses
        flags: dict[str, tuple[Address, ...]] = {}
        for text in self.overrides.resolve:
            pin = parse_pin(text)
            if isinstance(pin, PinError):
                self.problems.append(Problem("--resolve", None, "", pin.message, pin.hint))
            else:
                flags[pin.name] = (*flags.get(pin.name, ()), *pin.addresses)
        return pins | flags

    def _policies(self) -> tuple[PolicySource, ...]:
        named: list[PolicySource] = []
        for index, text in enumerate(self.model.policy or ()):
            named.extend(self._find(text, ("policy", index)))
        for scope, texts in (self.model.scopes or {}).items():
            for index, text in enumerate(texts):
                named.extend(self._find(f"{scope}={text}", ("scopes", scope, index)))
        flags = [source for text in self.overrides.policies for source in self._find(text, None)]
        return tuple(with_policies(named, flags))

    def _find(self, text: str, place: Place | None) -> list[PolicySource]:
        """The source that `text` names, as the file says at `place` (None: as a flag says); else a problem."""
        try:
            source = find_policy(text)
        except ConfigError as error:
            for problem in error.problems:
                message = f"`{problem.file}`: {problem.message}"
                if place is None:
                    self.problems.append(Problem("--policy", None, "", message, problem.hint))
                else:
                    self._problem(place, message, problem.hint)
            return []
        return [source if place is None else PolicySource(source.scope, self.folder / source.path)]

    def _problem(self, place: Place, message: str, hint: str) -> None:
        if self.document is not None:
            self.problems.append(self.document.problem(place, message, hint))


def _stated(*, flag: bool | None, file: bool | None) -> bool:
    """What is on unless the flag, or else the file, says otherwise."""
    return file is not False if flag is None else flag


def _limits(model: LimitsModel | None) -> Limits:
    stated = {} if model is None else model.model_dump(exclude_none=True)
    limits = replace(Limits(), **stated)
    if "connections_per_client" in stated:
        return limits
    # One client must not be able to take the room of all others.
    return replace(limits, connections_per_client=max(1, limits.connections // 4))
