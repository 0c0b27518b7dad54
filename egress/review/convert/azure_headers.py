"""The headers of an Azure `Transform` as `inject` and `remove`, and the secrets that they need.

A secret there is a name in a store of Azure's, and a managed identity is one of Azure's: neither can be had here. Each
becomes a secret that the proxy reads from an environment variable, bound to the hosts of the rules that use it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.config.templates import read_template
from egress.review.convert.loss import Effect

if TYPE_CHECKING:
    from egress.review.convert.loss import Losses
    from egress.review.convert.policy_text import ImportedPolicy
    from egress.review.convert.source import Source

_NO_NAME: Final = re.compile(r"[^A-Za-z0-9]+")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")
_VALUE: Final = "{value}"
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
        stem = resource.partition("://")[2] or resource
        return self._secret(["identity", stem], f"a token of the managed identity for {resource}", source)

    def _secret(self, parts: list[str], comment: str, source: Source) -> str:
        words = _NO_NAME.sub("-", "-".join(parts)).strip("-").lower()[:_LENGTH]
        name = words if words[:1].isalpha() else f"secret-{words}"
        while name in self.policy.secrets and self.policy.secrets[name][0] != comment:
            name += "-2"
        variable = name.upper().replace("-", "_")
        _, _, hosts = self.policy.secrets.setdefault(name, (comment, variable, []))
        hosts += [host for host in self.hosts if host not in hosts]
        message = f"{comment} cannot be had here: the proxy reads it from its variable {variable}"
        self.losses.add(Effect.NARROWER, message, source.line())
        return name

    def _formatted(self, source: Source, name: str) -> str:
        form = source.text("format") or _VALUE
        if form.count(_VALUE) != 1:
            raise UnsaidError(f"the format on line {source.line()}")
        before, _, after = form.partition(_VALUE)
        return f"{before.replace('$', '$$')}${{{name}}}{after.replace('$', '$$')}"
