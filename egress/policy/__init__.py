"""The policy core: what is allowed, and why. Pure: no clock, no files, no network, no logging.

Everything public is re-exported here; other rooms import from `egress.policy` only. A denial is a value, never an
exception, and every function that judges text of the wire is total.
"""

from __future__ import annotations

from egress.policy.addresses import AddressClass, classify, readings, unmap
from egress.policy.decide import Policy, compile_policy
from egress.policy.names import parse_authority, parse_host, parse_port
from egress.policy.paths import PathPattern, PatternError, canonical_path, compile_path
from egress.policy.reasons import TEXTS, Reason, ReasonText
from egress.policy.rewrites import PathPrefix, Rewrite, Rewritten, rewritten
from egress.policy.targets import TargetError, lean_network, parse_network, parse_target, target_covers
from egress.policy.values import (
    Address,
    AddressDecision,
    AnyTarget,
    Decision,
    Host,
    HostTarget,
    Injection,
    KeyedLimits,
    NameDecision,
    Network,
    NetworkTarget,
    PortRange,
    Rate,
    Refusal,
    Request,
    Rule,
    RuleLimits,
    RuleRef,
    Say,
    ScopeRules,
    SecretRef,
    Target,
)
from egress.policy.vocabulary import (
    HTTP_PROTOCOLS,
    OVER_TLS,
    Certainty,
    Lane,
    Mode,
    Protocol,
    Scheme,
    Scope,
    TlsMode,
    Verdict,
)

__all__ = [
    "HTTP_PROTOCOLS",
    "OVER_TLS",
    "TEXTS",
    "Address",
    "AddressClass",
    "AddressDecision",
    "AnyTarget",
    "Certainty",
    "Decision",
    "Host",
    "HostTarget",
    "Injection",
    "KeyedLimits",
    "Lane",
    "Mode",
    "NameDecision",
    "Network",
    "NetworkTarget",
    "PathPattern",
    "PathPrefix",
    "PatternError",
    "Policy",
    "PortRange",
    "Protocol",
    "Rate",
    "Reason",
    "ReasonText",
    "Refusal",
    "Request",
    "Rewrite",
    "Rewritten",
    "Rule",
    "RuleLimits",
    "RuleRef",
    "Say",
    "Scheme",
    "Scope",
    "ScopeRules",
    "SecretRef",
    "Target",
    "TargetError",
    "TlsMode",
    "Verdict",
    "canonical_path",
    "classify",
    "compile_path",
    "compile_policy",
    "lean_network",
    "parse_authority",
    "parse_host",
    "parse_network",
    "parse_port",
    "parse_target",
    "readings",
    "rewritten",
    "target_covers",
    "unmap",
]
