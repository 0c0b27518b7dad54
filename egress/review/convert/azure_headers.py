"""The headers of an Azure `Transform` as `inject` and `remove`, and the secrets that they need.

Each becomes a secret here, bound to the hosts of the rules that use it:

1. secretRef            a name in a store of Azure's, which cannot be had here: an environment variable of the proxy
2. managedIdentityRef   a token for the same resource, of the managed identity of the machine that the proxy runs on;
                        where the reference names an identity otherwise than by client id, a variable as well
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.config.templates import read_template
from egress.review.convert.loss import Effect
from egress.review.convert.policy_text import ImportedSecret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.review.convert.loss import Losses
    from egress.review.convert.policy_text import ImportedPolicy
    from egress.review.convert.source import Source
    from egress.review.yaml_text import Plain

_NO_NAME: Final = re.compile(r"[^A-Za-z0-9]+")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")
_VALUE: Final = "{value}"
# Which identity a reference means, in words that no source here has.
_OTHER_NAMES: Final = ("type", "identityType", "identityResourceId")
_SYSTEM: Final = frozenset({"system", "systemassigned"})
_LENGTH: Final = 60


class UnsaidError(Exception):
    """A header that no rule here can say; the rule that it stands in must not allow."""


@dataclass(slots=True)
class Headers:
    """Collects the headers of one rule. `hosts` are the rule's targets."""

    policy: ImportedPolicy
    losses: Losses
    hosts: list[str]
    inject: dict[str, str] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)

    def read(self, source: Source) -> None:
        """One entry of `headers`. Raises UnsaidError."""
        name = source.text("name") or ""
        if not _HEADER.match(name) or source.unknown("operation", "name", "value", "valueRef"):
            raise UnsaidError(f"the header on line {source.line()}")
        operation = source.word("operation", "Set", "Insert", "Remove") or "Set"
        if operation == "Remove":
            self.remove.append(name)
            return
        if operation == "Insert":
            message = f"{name} replaces what the client sent; there it is added only where the client sent none"
            self.losses.add(Effect.NARROWER, message, source.line())
        self.inject[name] = self._value(source)

    def _value(self, source: Source) -> str:
        reference = source.mapping("valueRef")
        if reference is None:
            written = (source.text("value") or "").replace("$", "$$")
            message = f"the value of {source.text('name')} stands in the policy itself; make it a secret if it is one"
            self.losses.add(Effect.NOTE, message, source.line())
        else:
            written = self._referred(reference)
        try:
            read_template(written)
        except ValueError:
            raise UnsaidError(f"the header value on line {source.line()}") from None
        return written

    def _referred(self, reference: Source) -> str:
        secret, identity = reference.mapping("secretRef"), reference.mapping("managedIdentityRef")
        if reference.unknown("secretRef", "managedIdentityRef") or (secret is None) == (identity is None):
            raise UnsaidError(f"the reference on line {reference.line()}")
        if secret is not None:
            return self._formatted(secret, self._stored(secret))
        assert identity is not None  # noqa: S101 -- one of both is there
        return self._formatted(identity, self._identity(identity))

    def _stored(self, source: Source) -> str:
        parts = [part for part in (source.text("secretId"), source.text("secretKey")) if part]
        if not parts or source.unknown("secretId", "secretKey", "format"):
            raise UnsaidError(f"the secret on line {source.line()}")
        return self._secret(parts, f"secret {' / '.join(parts)} of the sandbox group", source)

    def _identity(self, source: Source) -> str:
        resource = source.text("resource")
        known = ("resource", "format", "type", "identityType", "identityResourceId", "clientId")
        if not resource or source.unknown(*known):
            raise UnsaidError(f"the managed identity on line {source.line()}")
        client = source.text("clientId")
        whose = f" {client}" if client else ""
        parts = ["identity", resource.partition("://")[2] or resource, *([client] if client else [])]
        comment = f"a token of the managed identity{whose} for {resource}"
        others = [source.text(key) for key in _OTHER_NAMES]
        if client is None and any(other and other.lower() not in _SYSTEM for other in others):
            return self._secret(parts, comment, source)
        identity: dict[str, Plain] = {"identity": {"client_id": client}} if client else {}
        return self._secret(parts, comment, source, {"azure": {"resource": resource, **identity}})

    def _secret(self, parts: list[str], comment: str, source: Source, known: Mapping[str, Plain] | None = None) -> str:
        """The name of a secret with the source `known`, or None, which is a variable."""
        words = _NO_NAME.sub("-", "-".join(parts)).strip("-").lower()[:_LENGTH]
        name = words if words[:1].isalpha() else f"secret-{words}"
        while name in self.policy.secrets and self.policy.secrets[name].comment != comment:
            name += "-2"
        variable = name.upper().replace("-", "_")
        secret = self.policy.secrets.setdefault(name, ImportedSecret(comment, known or {"env": variable}))
        secret.hosts += [host for host in self.hosts if host not in secret.hosts]
        if known is None:
            message = f"{comment} cannot be had here: the proxy reads it from its variable {variable}"
            self.losses.add(Effect.NARROWER, message, source.line())
        else:
            message = f"{comment} is one of the machine that the proxy runs on, which needs the same roles"
            self.losses.add(Effect.NOTE, message, source.line())
        return name

    def _formatted(self, source: Source, name: str) -> str:
        form = source.text("format") or _VALUE
        if form.count(_VALUE) != 1:
            raise UnsaidError(f"the format on line {source.line()}")
        before, _, after = form.partition(_VALUE)
        return f"{before.replace('$', '$$')}${{{name}}}{after.replace('$', '$$')}"
