"""The shape of a rule's `sign`: by which scheme, and with which secret, what the rule allows is signed.

The templates of an HMAC scheme are texts with variables, `${method}` and so on; `$$` is a dollar sign. No variable
holds a secret: the key is in the signature alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from egress.config.fields import text, word, wrong
from egress.config.header_fields import header_name
from egress.config.templates import SECRET_NAME
from egress.config.wording import did_you_mean, quoted
from egress.policy import (
    MESSAGE_VARIABLES,
    VALUE_VARIABLES,
    HashName,
    HmacScheme,
    KeyForm,
    SignatureEncoding,
    SigV4,
    Variable,
)

if TYPE_CHECKING:
    from egress.policy import SignatureText, Signing

_PIECE = re.compile(r"\$\$|\$\{[^{}]*\}|\$|[^$]+")
_SCOPE_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}\Z")
_LENGTH: Final = 4096
_HEADER: Final = "header:"


def _secret(value: object) -> str:
    name = text(value)
    if not SECRET_NAME.match(name):
        raise wrong(f"{quoted(name)} is not a secret's name", "write the name alone, as in `sigv4: aws`")
    return name


def _scope_word(value: object) -> str:
    named = text(value)
    if not _SCOPE_WORD.match(named):
        raise wrong(f"{quoted(named)} is no name that AWS gives", "write it as in `region: eu-west-1`")
    return named


def _message(value: object) -> SignatureText:
    """What is signed: line breaks may stand in it."""
    parts = _read(text(value), MESSAGE_VARIABLES, headers=True)
    if not any(isinstance(part, Variable) for part in parts):
        raise wrong("this message is the same for every request", "name what is signed, as in `${method} ${path}`")
    return parts


def _value(value: object) -> SignatureText:
    """What a header says: printable ASCII without spaces at its ends."""
    said = text(value)
    if said != said.strip(" \t") or any(not " " <= char <= "~" for char in said):
        raise wrong("a header's value is printable ASCII, with no space at its ends", "write `v1=${signature}`")
    return _read(said, VALUE_VARIABLES, headers=False)


def _read(said: str, known: tuple[str, ...], *, headers: bool) -> SignatureText:
    if not said or len(said) > _LENGTH or any(not (" " <= char <= "~" or char == "\n") for char in said):
        raise wrong("should be printable ASCII, and not empty", "write `${timestamp}.${body}`")
    parts: list[str | Variable] = []
    for piece in _PIECE.findall(said):
        if piece == "$":
            hint = "close the brace, or write `$$` for a dollar sign"
            raise wrong("a `$` that begins no `${name}`", hint)
        if piece.startswith("${"):
            parts.append(_variable(piece[2:-1], known, headers=headers))
        else:
            parts.append("$" if piece == "$$" else piece)
    return tuple(parts)


def _variable(name: str, known: tuple[str, ...], *, headers: bool) -> Variable:
    if headers and name.startswith(_HEADER):
        header = name.removeprefix(_HEADER)
        if not _TOKEN.match(header):
            raise wrong(f"{quoted(header)} is not a header name", "write `${header:X-Date}`")
        return Variable("header", header.lower())
    if name not in known:
        listed = ", ".join(f"`{each}`" for each in (*known, *(("header:NAME",) if headers else ())))
        raise wrong(f"unknown variable {quoted(name)}", did_you_mean(name, known) or f"write one of {listed}")
    return Variable(name)


def signature_text(parts: SignatureText) -> str:
    """A template again, as a file writes it."""
    return "".join(_variable_text(part) if isinstance(part, Variable) else part.replace("$", "$$") for part in parts)


def _variable_text(variable: Variable) -> str:
    return f"${{{_HEADER}{variable.header}}}" if variable.header else f"${{{variable.name}}}"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True)


type _SecretField = Annotated[str, PlainValidator(_secret, json_schema_input_type=str)]
type _ScopeField = Annotated[str, PlainValidator(_scope_word, json_schema_input_type=str)]
type _HeaderField = Annotated[str, PlainValidator(header_name, json_schema_input_type=str)]
type _MessageField = Annotated[tuple[Any, ...], PlainValidator(_message, json_schema_input_type=str)]
type _ValueField = Annotated[tuple[Any, ...], PlainValidator(_value, json_schema_input_type=str)]
type _HashField = Annotated[
    HashName, PlainValidator(word(HashName), json_schema_input_type=Literal["sha256", "sha512", "sha1"])
]
type _EncodingField = Annotated[
    SignatureEncoding, PlainValidator(word(SignatureEncoding), json_schema_input_type=Literal["hex", "base64"])
]
type _KeyField = Annotated[
    KeyForm, PlainValidator(word(KeyForm), json_schema_input_type=Literal["text", "base64", "hex"])
]


class HmacModel(_Strict):
    """A signature by template: an HMAC of a message, in a header."""

    secret: _SecretField = Field(description="The secret whose value is the key.")
    message: _MessageField = Field(description="What is signed, as in `${timestamp}.${method}.${path}.${body}`.")
    header: _HeaderField = Field(description="The header that the signature stands in.")
    value: _ValueField | None = Field(None, description="What that header says; `${signature}` if left out.")
    algorithm: _HashField | None = Field(None, description="The hash; `sha256` if left out.")
    encoding: _EncodingField | None = Field(None, description="How the signature is written; `hex` if left out.")
    key: _KeyField | None = Field(None, description="What the secret's text is: `text` if left out.")
    also: dict[_HeaderField, _ValueField] | None = Field(
        None, description='Further headers, as in `X-Timestamp: "${timestamp}"`.'
    )

    @model_validator(mode="after")
    def _one_signature(self) -> Self:
        """The header holds the signature, and no header is set twice."""
        if self.value is not None and Variable("signature") not in self.value:
            raise wrong("`value` does not hold the signature", "write `${signature}` in it")
        names = [self.header.lower(), *(name.lower() for name in self.also or ())]
        if len(set(names)) < len(names):
            raise wrong("two of these headers are the same", "keep one of them")
        return self

    def scheme(self) -> HmacScheme:
        """The policy core's."""
        return HmacScheme(
            self.secret,
            self.message,
            self.header,
            self.value or (Variable("signature"),),
            self.algorithm or HashName.SHA256,
            self.encoding or SignatureEncoding.HEX,
            self.key or KeyForm.TEXT,
            tuple((self.also or {}).items()),
        )


def _signs(value: object) -> object:
    """One scheme."""
    if isinstance(value, str):
        raise wrong("should say by which scheme it is signed", "write `sign: {sigv4: NAME}`")
    if isinstance(value, dict):
        named = [key for key in ("sigv4", "hmac") if key in value]
        if not named:
            raise wrong("this names no scheme", "write `{sigv4: NAME}` or `{hmac: {secret: NAME, ...}}`")
        if len(named) > 1:
            raise wrong("a request is signed once, and this has `sigv4` and `hmac`", "keep one of them")
        extra = [key for key in ("region", "service") if key in value]
        if named == ["hmac"] and extra:
            raise wrong(f"`{extra[0]}` belongs to `sigv4`", "remove it")
    return value


class _SignModel(_Strict):
    """How a request is signed anew; exactly one of `sigv4` and `hmac`."""

    sigv4: _SecretField | None = Field(None, description="The secret that holds AWS's keys.")
    region: _ScopeField | None = Field(None, description="The region that is signed for, whatever the client says.")
    service: _ScopeField | None = Field(None, description="The service, as AWS signs it, whatever the client says.")
    hmac: HmacModel | None = Field(None, description="A signature by template.")

    @property
    def scheme(self) -> str:
        """The key that names the scheme."""
        return "sigv4" if self.sigv4 is not None else "hmac"

    def value(self) -> Signing | None:
        """The policy core's; None where a mistake left no scheme."""
        if self.sigv4 is not None:
            return SigV4(self.sigv4, self.region, self.service)
        return None if self.hmac is None else self.hmac.scheme()


type SignModel = Annotated[_SignModel, BeforeValidator(_signs)]
