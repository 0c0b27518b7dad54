"""The shape of what puts a secret on a request: `inject` with its formats, `swap`, and a secret's `placeholder`.

1. a header is a text with `${name}` in it, or `{basic: {user: ..., password: ...}}`
2. a placeholder that somebody writes down is made of characters that need no encoding in a path, in JSON or in a header
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PlainValidator, Tag

from egress.config.fields import listed, text, word, wrong
from egress.config.header_fields import HeaderField, TemplateField, template
from egress.config.wording import kind_of, one_of, quoted
from egress.policy import Injection, SecretRef, Swap, SwapPlace

# Long enough never to stand anywhere by chance; what is shorter would also break up harmless requests.
SHORTEST: Final = 16
LONGEST: Final = 512
_PLACEHOLDER = re.compile(r"[A-Za-z0-9._~+=-]+\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_EXAMPLE = "write a unique text of 16 or more letters, digits, `-` and `_`, as in `sk-egress-0123456789abcdef`"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True)


def _user(value: object) -> tuple[str | SecretRef, ...]:
    """A template without a colon, at which the server takes user and password apart (RFC 7617, section 2).

    It may be empty: some services look at the password alone.
    """
    parts = template(value) if value != "" else ()
    if any(isinstance(part, str) and ":" in part for part in parts):
        raise wrong("a user's name holds no colon: the password begins there", "write what follows it as `password`")
    return parts


def _secret(value: object) -> str:
    parts = template(f"${{{text(value)}}}")
    return parts[0].name if isinstance(parts[0], SecretRef) else ""


def placeholder_text(value: object) -> str:
    """A placeholder as somebody writes it down."""
    written = text(value)
    if not SHORTEST <= len(written) <= LONGEST or not _PLACEHOLDER.match(written):
        # Not shown: people paste the value itself here.
        raise wrong(f"this is no placeholder: too short, longer than {LONGEST}, or not plain", _EXAMPLE)
    return written


def _variable(value: object) -> str:
    name = text(value)
    if not _VARIABLE.match(name):
        raise wrong("this is not the name of an environment variable", "write its name, as in `GITHUB_TOKEN`")
    return name


def _like(value: object) -> str:
    from egress.config.placeholder_forms import FORMS  # noqa: PLC0415 - only where somebody writes one

    name = text(value)
    if name not in FORMS:
        raise wrong(f"no credentials are known that look like {quoted(name)}", f"write {one_of(FORMS)}")
    return name


def _shape(value: object) -> str | None:
    if isinstance(value, (dict, BaseModel)):
        return "<form>"
    return "<text>" if isinstance(value, (str, int, float)) else None


def _whole(value: object) -> object:
    """`TEXT` is `{value: TEXT}`."""
    return {"value": value} if isinstance(value, (str, int, float)) else value


def _as_it_is(value: object) -> object:
    return value


def _swaps(value: object) -> object:
    return [value] if isinstance(value, dict) else listed(value)


def _as_list(value: object) -> object:
    if not isinstance(value, (str, list)):
        raise wrong(f"should be a header or a list of headers, not {kind_of(value)}", "write `headers: [x-api-key]`")
    return listed(value)


type _User = Annotated[tuple[str | SecretRef, ...], PlainValidator(_user, json_schema_input_type=str)]
type _SecretName = Annotated[str, PlainValidator(_secret, json_schema_input_type=str)]
type _Place = Annotated[
    SwapPlace, PlainValidator(word(SwapPlace), json_schema_input_type=Literal["query", "path", "body"])
]
type _Places = Annotated[list[_Place], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type _SwapHeaders = Annotated[list[HeaderField], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
type _Placeholder = Annotated[str, PlainValidator(placeholder_text, json_schema_input_type=str)]
type _Variable = Annotated[str, PlainValidator(_variable, json_schema_input_type=str)]
type _Like = Annotated[str, PlainValidator(_like, json_schema_input_type=str)]


class BasicModel(_Strict):
    """The user and password of HTTP Basic, which are encoded for it."""

    user: _User = Field(description="The user's name, without a colon, perhaps empty; `${name}` is a secret's value.")
    password: TemplateField = Field(description="The password, as in `${name}`.")


class InjectedModel(_Strict):
    """A header in a form of its own."""

    basic: BasicModel = Field(description='HTTP Basic, as in `{user: x-access-token, password: "${name}"}`.')


type Injected = Annotated[
    Annotated[TemplateField, Tag("<text>")] | Annotated[InjectedModel, Tag("<form>")],
    Discriminator(
        _shape,
        custom_error_type="wrong_header",
        custom_error_message="should be text, or `{basic: {user: NAME, password: ...}}`",
    ),
    BeforeValidator(_as_it_is, json_schema_input_type=str | InjectedModel),
]


class SwapModel(_Strict):
    """Where the client puts the placeholder of a secret, and the proxy its value."""

    secret: _SecretName = Field(description="The secret's name.")
    headers: _SwapHeaders | None = Field(None, description="Headers in which the placeholder is swapped.")
    places: _Places | None = Field(
        None, alias="in", description="Other places: `query`, `path`, `body`; only in a rule with `paths`."
    )
    require: bool | None = Field(None, description="Requests without the placeholder in one of the places are refused.")

    def swap(self) -> Swap:
        """The policy core's."""
        return Swap(self.secret, tuple(self.headers or ()), frozenset(self.places or ()), bool(self.require))


type Swaps = Annotated[list[SwapModel], BeforeValidator(_swaps, json_schema_input_type=SwapModel | list[SwapModel])]


class PlaceholderModel(_Strict):
    """What the sandbox holds in place of a secret. Made up where no `value` is given."""

    env: _Variable | None = Field(None, description="The variable that holds it in the sandbox: `egress env` sets it.")
    value: _Placeholder | None = Field(None, description="The placeholder itself, where it must be a certain text.")
    like: _Like | None = Field(None, description="What it looks like, as in `sk-ant` or `ghp`.")


type PlaceholderField = Annotated[
    PlaceholderModel, BeforeValidator(_whole, json_schema_input_type=str | PlaceholderModel)
]


def injection(header: str, injected: tuple[str | SecretRef, ...] | InjectedModel) -> Injection:
    """The policy core's."""
    if isinstance(injected, InjectedModel):
        return Injection(header, injected.basic.password, injected.basic.user)
    return Injection(header, injected)
