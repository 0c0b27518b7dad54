"""YAML to policy values and server configuration. The only room that knows pydantic and ruamel.

Everything public is re-exported here. What a file says wrong comes out as one `ConfigError` with every problem in it.
"""

from __future__ import annotations

from egress.config.admin import AdminConfig
from egress.config.binding import (
    Binding,
    binding_of,
    binding_text,
    common_targets,
    narrowed,
    read_binding,
    target_text,
    wide_hosts,
)
from egress.config.bindings import allows, is_bound
from egress.config.case_files import Case, CaseFile, read_cases
from egress.config.clock import wall_clock
from egress.config.dns import DNS_PORT, DnsAnswers, DnsConfig, DnsLimits, NameServer
from egress.config.identity import GoogleIdentity, IdentityConfig, NamedSecret, bare_resource
from egress.config.layout import Formatted, format_policy
from egress.config.limit_fields import bytes_text, rate_text
from egress.config.listening import ListenAddress, UnixListener, socket_mode, told_listener
from egress.config.load import load_policies, load_policy
from egress.config.loaded import LoadedPolicy, policy_of, written_out
from egress.config.machine import Machine
from egress.config.owners import foreign_owners
from egress.config.pins import Pin, PinError, parse_pin
from egress.config.placeholder_forms import Form, Shape, form_of
from egress.config.preset_files import is_preset, shipped_presets
from egress.config.presets import Inclusion
from egress.config.reading import read_text
from egress.config.sandboxes import claims, is_token, label_problem, name_problem
from egress.config.sandboxes_model import UNKNOWN_SANDBOX, SandboxDefinition, hash_token
from egress.config.schema import policy_schema, policy_schema_text
from egress.config.secret_sources import EnvSource, FileSource, StoreSource
from egress.config.secrets_key import (
    KeyCommand,
    KeyFile,
    KeyKeyring,
    KeySource,
    KeySystemd,
    KeyVariable,
    default_key_source,
    key_variable,
)
from egress.config.secrets_model import Placeholder, SecretDefinition
from egress.config.server import default_state_dir, load_server_config
from egress.config.server_config import (
    DEFAULT_LISTEN,
    AuditConfig,
    DenyPage,
    Durability,
    Forward,
    Limits,
    MitmStart,
    ServerConfig,
    ServerOverrides,
    TransparentConfig,
    TransparentMode,
    UpstreamConfig,
)
from egress.config.session import read_session
from egress.config.sign_model import signature_text
from egress.config.socket_fields import uid_problem
from egress.config.sources import PolicySource, find_policy, shipped_policies, with_policies
from egress.config.stream_model import StreamAddress, StreamConfig, StreamKind
from egress.config.templates import SECRET_NAME, template_text
from egress.config.upstream_proxy import ConnectBy, ProxyAddress, ProxyScheme, UpstreamProxy
from egress.config.wording import printable

__all__ = [
    "DEFAULT_LISTEN",
    "DNS_PORT",
    "SECRET_NAME",
    "UNKNOWN_SANDBOX",
    "AdminConfig",
    "AuditConfig",
    "Binding",
    "Case",
    "CaseFile",
    "ConnectBy",
    "DenyPage",
    "DnsAnswers",
    "DnsConfig",
    "DnsLimits",
    "Durability",
    "EnvSource",
    "FileSource",
    "Form",
    "Formatted",
    "Forward",
    "GoogleIdentity",
    "IdentityConfig",
    "Inclusion",
    "KeyCommand",
    "KeyFile",
    "KeyKeyring",
    "KeySource",
    "KeySystemd",
    "KeyVariable",
    "Limits",
    "ListenAddress",
    "LoadedPolicy",
    "Machine",
    "MitmStart",
    "NameServer",
    "NamedSecret",
    "Pin",
    "PinError",
    "Placeholder",
    "PolicySource",
    "ProxyAddress",
    "ProxyScheme",
    "SandboxDefinition",
    "SecretDefinition",
    "ServerConfig",
    "ServerOverrides",
    "Shape",
    "StoreSource",
    "StreamAddress",
    "StreamConfig",
    "StreamKind",
    "TransparentConfig",
    "TransparentMode",
    "UnixListener",
    "UpstreamConfig",
    "UpstreamProxy",
    "allows",
    "bare_resource",
    "binding_of",
    "binding_text",
    "bytes_text",
    "claims",
    "common_targets",
    "default_key_source",
    "default_state_dir",
    "find_policy",
    "foreign_owners",
    "form_of",
    "format_policy",
    "hash_token",
    "is_bound",
    "is_preset",
    "is_token",
    "key_variable",
    "label_problem",
    "load_policies",
    "load_policy",
    "load_server_config",
    "name_problem",
    "narrowed",
    "parse_pin",
    "policy_of",
    "policy_schema",
    "policy_schema_text",
    "printable",
    "rate_text",
    "read_binding",
    "read_cases",
    "read_session",
    "read_text",
    "shipped_policies",
    "shipped_presets",
    "signature_text",
    "socket_mode",
    "target_text",
    "template_text",
    "told_listener",
    "uid_problem",
    "wall_clock",
    "wide_hosts",
    "with_policies",
    "written_out",
]
