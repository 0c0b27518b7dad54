"""The shape of `identity` in `egress.yaml`, and its reading into an `IdentityConfig`.

1. the listener is one address that the sandbox reaches, so that what is exported to it is where the proxy is
2. a secret is named once: a placeholder stands for one credential, and tells by itself which it is
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, PlainValidator

from egress.config.fields import text, wrong
from egress.config.identity import GoogleIdentity, IdentityConfig, NamedSecret, bare_resource
from egress.config.policy_model import Strict, TextField
from egress.config.wording import kind_of, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.config.document import Document
    from egress.config.wording import Place
    from egress.errors import Problem

_LISTEN = "write `127.0.0.1:9911`"
_LAST_PORT = 65_535
_RESOURCE = "write it as the SDK asks for it, as in `https://management.azure.com`"


def _address(value: object) -> tuple[str, int]:
    written = text(value)
    host, _, port = written.rpartition(":")
    try:
        address, number = ip_address(host.removeprefix("[").removesuffix("]")), int(port)
    except ValueError:
        raise wrong(f"{quoted(written)} is not an address and port", _LISTEN) from None
    if not port.isascii() or not port.isdigit() or number > _LAST_PORT:
        raise wrong(f"{quoted(written)} is not an address and port", _LISTEN)
    if address.is_unspecified:
        raise wrong("all addresses are no place to send a client to", "name the one address that the sandbox reaches")
    return str(address), number


def _resources(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        shown = "empty" if value == {} else kind_of(value)
        raise wrong(
            f"should name a secret for each resource, not {shown}", "write `{https://management.azure.com: NAME}`"
        )
    found: dict[str, str] = {}
    for key, name in value.items():
        resource = bare_resource(text(key))
        if not resource or resource.endswith("/.default") or any(not "!" <= each <= "~" for each in resource):
            raise wrong(f"{quoted(text(key))} is no resource", f"{_RESOURCE}, without `/.default`")
        if resource in found:
            raise wrong(f"{quoted(resource)} stands here twice", "a slash at its end makes no difference")
        found[resource] = text(name)
    return found


def _visible(value: object) -> str:
    written = text(value)
    if not written or any(not "!" <= each <= "~" for each in written):
        raise wrong(f"{quoted(written)} is not what Google calls it", "write visible ASCII without spaces")
    return written


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


VisibleField = Annotated[str, PlainValidator(_visible, json_schema_input_type=str)]


class AwsIdentityModel(Strict):
    """Keys of AWS: `secret` signs, by `sign: {sigv4: NAME}` in a rule."""

    secret: TextField


class GoogleIdentityModel(Strict):
    """A service account of Google Cloud."""

    secret: TextField
    email: VisibleField
    project: VisibleField | None = None
    scopes: Annotated[list[VisibleField], BeforeValidator(_listed, json_schema_input_type=str | list[str])] | None = (
        None
    )


class IdentityModel(Strict):
    """The identity endpoints of clouds that the proxy answers itself, with placeholders."""

    listen: Annotated[tuple[str, int], PlainValidator(_address, json_schema_input_type=str)]
    azure: Annotated[dict[str, str], PlainValidator(_resources, json_schema_input_type=dict[str, str])] | None = None
    aws: AwsIdentityModel | None = None
    google: GoogleIdentityModel | None = None


def identity_config(model: IdentityModel, document: Document) -> IdentityConfig:
    """The endpoints as values that know where they were written."""

    def named(name: str, *place: str) -> NamedSecret:
        told = document.problem(("identity", *place), "")
        return NamedSecret(name, told.file, told.line, told.where)

    google = model.google
    return IdentityConfig(
        model.listen,
        azure={resource: named(name, "azure") for resource, name in (model.azure or {}).items()},
        aws=None if model.aws is None else named(model.aws.secret, "aws", "secret"),
        google=None
        if google is None
        else GoogleIdentity(
            named(google.secret, "google", "secret"),
            google.email,
            google.project,
            tuple(google.scopes or ("https://www.googleapis.com/auth/cloud-platform",)),
        ),
    )


def identity_problems(config: IdentityConfig, listens: tuple[object, ...], document: Document) -> Iterator[Problem]:
    """What is wrong whatever the policies say."""

    def problem(place: Place, message: str, hint: str) -> Problem:
        return document.problem(("identity", *place), message, hint)

    if config.listen in listens and config.listen[1]:
        yield problem(("listen",), "this is where the proxy listens", "name another port")
    if not (config.azure or config.aws or config.google):
        yield problem((), "there is nothing to answer", "name `azure`, `aws` or `google`")
    names = [each.name for each in config.azure.values()]
    names += [] if config.aws is None else [config.aws.name]
    names += [] if config.google is None else [config.google.secret.name]
    for twice in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield problem(
            (), f"the secret `{twice}` is named twice", "a placeholder stands for one credential of one service"
        )
