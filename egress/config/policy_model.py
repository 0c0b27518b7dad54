"""The shape of a policy file. What single values mean is `fields`; what they mean together is `rules`.

The descriptions here are what an editor shows: the JSON Schema is made from these classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PlainValidator, Tag

from egress.config.body_model import Argument, McpMethods, OperationNames, Operations, Tools, stated
from egress.config.credential_model import (  # noqa: TC001  pydantic reads them at run time
    Injected,
    PlaceholderField,
    Swaps,
)
from egress.config.fields import (
    READ_ONLY,
    AllowedField,
    BoundHostField,
    LabelField,
    LabelNameField,
    MethodField,
    MomentField,
    NameField,
    NetworkField,
    PathField,
    PortField,
    RefusedField,
    SandboxField,
    listed,
    text,
    word,
    wrong,
)
from egress.config.header_fields import HeaderField, HeaderValueField, QueryField
from egress.config.include_model import Includes  # noqa: TC001  pydantic reads it at run time
from egress.config.limit_fields import (  # noqa: TC001  pydantic reads them at run time
    ByteRateField,
    RequestRateField,
    WholeNumberField,
)
from egress.config.name_servers import FewServers  # noqa: TC001  pydantic reads it at run time
from egress.config.rewrite_model import RewriteModel  # noqa: TC001  pydantic reads it at run time
from egress.config.secret_models import (  # noqa: TC001  pydantic reads them at run time
    AwsModel,
    AzureModel,
    GithubAppModel,
    GoogleModel,
    KeyringModel,
    OAuth2Model,
)
from egress.config.sign_model import SignModel  # noqa: TC001  pydantic reads it at run time
from egress.config.source_fields import (  # noqa: TC001  pydantic reads them at run time
    ArgvField,
    KeepField,
    StoreNameField,
    TimeoutField,
)
from egress.config.vault_model import VaultModel  # noqa: TC001  pydantic reads it at run time
from egress.config.wording import kind_of, quoted
from egress.policy import GraphqlCondition, McpCondition, Mode, Protocol, TlsMode, Unreadable, Verdict


class Strict(BaseModel):
    """No unknown keys, no conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True)


class HostFile(Strict):
    """A text file with one target a line; `#` begins a comment."""

    file: Annotated[str, PlainValidator(text, json_schema_input_type=str)] = Field(
        description="Path, from the folder of the file that names it."
    )


def _one_file_or_list(value: object) -> str | None:
    if isinstance(value, (dict, HostFile)):
        return "<file>"
    return "<list>" if isinstance(value, list) else None


def _methods(value: object) -> object:
    if value == "read-only":
        return sorted(READ_ONLY)
    return listed(value)


def _version(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if value == 1:
            return 1
        raise wrong(f"this version of egress reads policies of version 1, not {value}", "write `version: 1`")
    shown = quoted(value) if isinstance(value, float) else kind_of(value)
    raise wrong(f"should be the number 1, not {shown}", "write `version: 1`")


_ONE_FILE_OR_LIST = Discriminator(
    _one_file_or_list,
    custom_error_type="wrong_targets",
    custom_error_message="should be a target, a list of targets, or `{file: PATH}`",
)
_TARGETS = BeforeValidator(listed, json_schema_input_type=str | list[str] | HostFile)

type Allowed = Annotated[
    Annotated[list[AllowedField], Tag("<list>")] | Annotated[HostFile, Tag("<file>")], _ONE_FILE_OR_LIST, _TARGETS
]
type Refused = Annotated[
    Annotated[list[RefusedField], Tag("<list>")] | Annotated[HostFile, Tag("<file>")], _ONE_FILE_OR_LIST, _TARGETS
]
type Methods = Annotated[list[MethodField], BeforeValidator(_methods, json_schema_input_type=str | list[str])]
type Ports = Annotated[list[PortField], BeforeValidator(listed, json_schema_input_type=int | str | list[int | str])]
type Paths = Annotated[list[PathField], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type Query = Annotated[list[QueryField], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type HeaderValues = Annotated[list[HeaderValueField], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type Headers = Annotated[list[HeaderField], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type Networks = Annotated[list[NetworkField], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type Sandboxes = Annotated[list[SandboxField], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type BoundHosts = Annotated[list[BoundHostField], BeforeValidator(listed, json_schema_input_type=str | list[str])]

type _ProtocolWord = Literal["http", "https", "ws", "wss", "grpc", "tcp", "dns"]
type _TlsWord = Literal["inspect", "auto", "tunnel"]
type _ModeWord = Literal["enforce", "report"]
type _VerdictWord = Literal["allow", "deny", "ask"]
type ProtocolField = Annotated[Protocol, PlainValidator(word(Protocol), json_schema_input_type=_ProtocolWord)]
type Protocols = Annotated[
    list[ProtocolField], BeforeValidator(listed, json_schema_input_type=_ProtocolWord | list[_ProtocolWord])
]
type ScrubField = Annotated[
    Unreadable, PlainValidator(word(Unreadable), json_schema_input_type=Literal["refuse", "pass"])
]
type TlsField = Annotated[TlsMode, PlainValidator(word(TlsMode), json_schema_input_type=_TlsWord)]
type VerdictField = Annotated[Verdict, PlainValidator(word(Verdict), json_schema_input_type=_VerdictWord)]
type ModeField = Annotated[Mode, PlainValidator(word(Mode), json_schema_input_type=_ModeWord)]
type TextField = Annotated[str, PlainValidator(text, json_schema_input_type=str)]


class SecretModel(Strict):
    """A named credential, bound to hosts. Its value never stands in a policy file."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["hosts"]}, {"required": ["store"]}]})

    env: TextField | None = Field(None, description="The environment variable of the proxy that holds the value.")
    file: TextField | None = Field(None, description="The file that holds the value; its mode should be 0600.")
    store: StoreNameField | None = Field(None, description="The name of a secret in the store of `egress secret`.")
    command: ArgvField | None = Field(None, description="The program that prints the value, and its arguments.")
    timeout: TimeoutField | None = Field(None, description="How long `command` may take; 10s if left out.")
    keep: KeepField | None = Field(None, description="How long what `command` printed is used; 5min if left out.")
    keyring: KeyringModel | None = Field(None, description="The entry of the operating system's keyring.")
    vault: VaultModel | None = Field(None, description="A field of a secret in HashiCorp Vault.")
    azure: AzureModel | None = Field(None, description="A token of Azure, or a secret of a Key Vault.")
    oauth2: OAuth2Model | None = Field(None, description="An access token of OAuth 2.0.")
    github_app: GithubAppModel | None = Field(None, description="An installation token of a GitHub App.")
    google: GoogleModel | None = Field(None, description="An access token of Google's.")
    aws: AwsModel | None = Field(None, description="Keys of AWS, for signing.")
    hosts: BoundHosts | None = Field(
        None, description="The hosts that the value may be sent to, and no others. Only `store` goes without."
    )
    methods: Methods | None = Field(None, description="The methods that it may be sent with; all if left out.")
    paths: Paths | None = Field(None, description="The paths that it may be sent to; all if left out.")
    placeholder: PlaceholderField | None = Field(
        None, description="What the sandbox holds in its place, as in `{env: ANTHROPIC_API_KEY}`."
    )


class LimitsModel(Strict):
    """How much each sandbox may do under a rule. Over it: 429, with `Retry-After` where that is known."""

    requests: RequestRateField | None = Field(None, description="Requests in a time: `10/s`, `100/min`, `5000/day`.")
    burst: WholeNumberField | None = Field(
        None, description="How many requests may come at once, after which they come at the rate of `requests`."
    )
    concurrent: WholeNumberField | None = Field(None, description="How many requests may be under way at once.")
    upload: ByteRateField | None = Field(None, description="Bytes sent in a time: `1GB/day`.")
    download: ByteRateField | None = Field(None, description="Bytes received in a time: `500MB/h`.")


class McpModel(Strict):
    """What the body of a request to an MCP server may ask for."""

    methods: McpMethods | None = Field(
        None, description="Methods, or patterns; `tools/call` alone where only `tools` or `arguments` stand."
    )
    tools: Tools | None = Field(None, description="Names of tools for `tools/call`, or patterns.")
    arguments: dict[TextField, Argument] | None = Field(
        None, description="Arguments of `tools/call` that must be text, each with a pattern."
    )

    def condition(self) -> McpCondition:
        """As the policy core has it."""
        methods = None if self.methods is None else tuple(self.methods)
        tools = None if self.tools is None else tuple(self.tools)
        return McpCondition(methods, tools, tuple((self.arguments or {}).items()))


class GraphqlModel(Strict):
    """What the body of a GraphQL request may ask for."""

    operations: Operations | None = Field(None, description="`query`, `mutation`, `subscription`.")
    names: OperationNames | None = Field(None, description="Names of operations, or patterns (`*` is any text).")

    def condition(self) -> GraphqlCondition:
        """As the policy core has it."""
        operations = None if self.operations is None else tuple(self.operations)
        return GraphqlCondition(operations, None if self.names is None else tuple(self.names))


class RuleModel(Strict):
    """One rule: exactly one of `allow`, `deny`, `ask`, then conditions that must all hold, then actions."""

    name: NameField | None = Field(None, description="A name for people, shown in denials and in the audit.")
    allow: Allowed | None = Field(None, description="Hosts, wildcards, addresses or ranges that may be reached.")
    deny: Refused | None = Field(None, description="Hosts, wildcards, addresses or ranges that are refused.")
    ask: Refused | None = Field(None, description="Destinations that a person must approve; refused until then.")
    ports: Ports | None = Field(None, description="Ports and ranges, as in `[443, 8000-8010]`.")
    methods: Methods | None = Field(None, description="Upper-case HTTP methods, or `read-only` (GET, HEAD, OPTIONS).")
    paths: Paths | None = Field(None, description="Paths; `*` is one segment, `**` any number of segments.")
    ignore_case: bool | None = Field(None, description="`paths` are the same in upper and lower case.")
    query: Query | None = Field(
        None, description="Query parameters that must be there: `name`, or `name=pattern` (`*` is any text)."
    )
    headers: HeaderValues | None = Field(
        None, description="Headers that must be there: `name`, or `name=pattern` (`*` is any text)."
    )
    mcp: Annotated[McpModel, BeforeValidator(stated)] | None = Field(
        None, description="What the body of a request to an MCP server may ask for; every message of it must be named."
    )
    graphql: Annotated[GraphqlModel, BeforeValidator(stated)] | None = Field(
        None, description="What the body of a GraphQL request may ask for; every operation of it must be named."
    )
    until: MomentField | None = Field(
        None, description="When the rule stops to match, with its offset, as in `2026-12-31T18:00:00Z`."
    )
    sandboxes: Sandboxes | None = Field(
        None, description="The sandboxes that the rule is for: names, or `label=value`."
    )
    protocol: Protocols | None = Field(
        None, description="What the connection may carry; `tcp` needs `ports`, `dns` is questions for names."
    )
    tls: TlsField | None = Field(None, description="How much of a TLS connection is opened.")
    http2: bool | None = Field(None, description="Clients that offer HTTP/2 get it, where TLS is opened.")
    inject: dict[HeaderField, Injected] | None = Field(
        None, description='Headers to set, as in `Authorization: "Bearer ${name}"`.'
    )
    swap: Swaps | None = Field(
        None, description="Where placeholders become values, as in `{secret: name, headers: [x-api-key]}`."
    )
    strip_own: bool | None = Field(
        None, description="`true`: headers in which clients send credentials of their own are removed."
    )
    remove: Headers | None = Field(None, description="Headers of the client's to remove.")
    rewrite: RewriteModel | None = Field(
        None, description="Where the request goes instead, as in `{scheme: https, host: gateway.corp.example}`."
    )
    sign: SignModel | None = Field(
        None, description="How the request is signed, as in `{sigv4: aws}`: the client's own signature is replaced."
    )
    scrub: ScrubField | None = Field(
        None,
        description="What becomes of answers that cannot be searched for the rule's secrets: `refuse` or `pass`."
        " Left out, text is refused and declared binary types pass.",
    )
    addresses: Networks | None = Field(
        None, description="Ranges outside the public Internet that the rule's names may resolve to."
    )
    limits: LimitsModel | None = Field(
        None, description="How much each sandbox may do under the rule, as in `{requests: 10/s, burst: 20}`."
    )
    annotate: Annotated[dict[LabelNameField, LabelField], Field(max_length=16)] | None = Field(
        None, description="Labels for the audit rows of what the rule decides, as in `ticket: OPS-1`."
    )


class PolicyModel(Strict):
    """A policy of egress: an ordered list of rules plus defaults. What no rule allows is denied."""

    version: Annotated[int, PlainValidator(_version, json_schema_input_type=Literal[1])] = Field(
        description="The version of the policy language: 1."
    )
    default: VerdictField | None = Field(None, description="What happens where no rule matches; deny if left out.")
    mode: ModeField | None = Field(
        None, description="`enforce`, or `report`: record what this scope would refuse, and let it pass."
    )
    report_below: bool | None = Field(
        None, description="`false`: no lower scope may say `mode: report`. `true` if left out."
    )
    tls: TlsField | None = Field(
        None, description="`inspect`, `auto` or `tunnel`, for rules that do not say their own."
    )
    resolvers: FewServers | None = Field(
        None, description="Name servers for what is judged by this policy, as in `[10.0.0.53, '9.9.9.9:53']`."
    )
    secrets: dict[str, SecretModel] | None = Field(None, description="Credentials that rules may inject, by name.")
    include: Includes | None = Field(None, description="Presets, tried after this file's own rules, in this order.")
    rules: list[RuleModel] | None = Field(None, description="In order; the first that matches decides.")
