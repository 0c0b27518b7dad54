"""Reason codes: why a request was allowed, denied, or failed. One table from code to title, sentence and HTTP status.

A code is part of the product's interface (audit rows, `X-Egress-Decision`, docs/reasons/CODE.md): codes are added,
never renamed or reused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a decision is what it is. The value is also the name of its page, docs/reasons/VALUE.md."""

    # allowed
    RULE_ALLOW = "rule-allow"
    DEFAULT_ALLOW = "default-allow"
    WOULD_DENY = "would-deny"
    IDENTITY_PLACEHOLDER = "identity-placeholder"
    # denied before any policy is asked
    SANDBOX_UNKNOWN = "sandbox-unknown"
    # denied by what the policy says
    HOST_NOT_ALLOWED = "host-not-allowed"
    PORT_NOT_ALLOWED = "port-not-allowed"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    PATH_NOT_ALLOWED = "path-not-allowed"
    PROTOCOL_NOT_ALLOWED = "protocol-not-allowed"
    QUERY_NOT_ALLOWED = "query-not-allowed"
    HEADER_NOT_ALLOWED = "header-not-allowed"
    BODY_NOT_ALLOWED = "body-not-allowed"
    BODY_UNREADABLE = "body-unreadable"
    RULE_EXPIRED = "rule-expired"
    RULE_DENY = "rule-deny"
    APPROVAL_REQUIRED = "approval-required"
    ADDRESS_NOT_ALLOWED = "address-not-allowed"
    # denied by the address step
    ADDRESS_NOT_PUBLIC = "address-not-public"
    ADDRESS_DENIED = "address-denied"
    ADDRESS_IS_PROXY = "address-is-proxy"
    # denied because it cannot be read one way only
    HOST_INVALID = "host-invalid"
    PORT_INVALID = "port-invalid"
    METHOD_INVALID = "method-invalid"
    PATH_AMBIGUOUS = "path-ambiguous"
    OVERRIDE_HEADER = "override-header"
    NAME_MISMATCH = "name-mismatch"
    SNI_MISSING = "sni-missing"
    ECH_REFUSED = "ech-refused"
    REQUEST_MALFORMED = "request-malformed"
    PROTOCOL_UNKNOWN = "protocol-unknown"
    UPGRADE_NOT_ALLOWED = "upgrade-not-allowed"
    # denied by a limit
    LIMIT_HEAD = "limit-head"
    LIMIT_BODY = "limit-body"
    LIMIT_CONNECTIONS = "limit-connections"
    LIMIT_TIME = "limit-time"
    LIMIT_REQUESTS = "limit-requests"
    LIMIT_BYTES = "limit-bytes"
    LIMIT_MEMORY = "limit-memory"
    # denied because a part of the proxy could not do its work
    CA_CONSTRAINED = "ca-constrained"
    CREDENTIAL_UNAVAILABLE = "credential-unavailable"
    CREDENTIAL_INSECURE = "credential-insecure"
    REQUEST_NOT_SIGNABLE = "request-not-signable"
    # denied because of the placeholder of a secret
    PLACEHOLDER_MISDIRECTED = "placeholder-misdirected"
    PLACEHOLDER_REQUIRED = "placeholder-required"
    IDENTITY_REFUSED = "identity-refused"
    NAME_NOT_RESOLVED = "name-not-resolved"
    AUDIT_UNAVAILABLE = "audit-unavailable"
    INTERNAL_ERROR = "internal-error"
    SHUTTING_DOWN = "shutting-down"
    # allowed, then failed on the way
    UPSTREAM_UNREACHABLE = "upstream-unreachable"
    UPSTREAM_TLS = "upstream-tls"
    UPSTREAM_MALFORMED = "upstream-malformed"
    RESPONSE_UNREADABLE = "response-unreadable"
    CLIENT_TLS = "client-tls"

    @property
    def page(self) -> str:
        """The path of the reason's page in the repository."""
        return f"docs/reasons/{self.value}.md"


@dataclass(frozen=True, slots=True)
class ReasonText:
    """A reason for people: a short title, one plain sentence, what to do, and the HTTP status of its page."""

    title: str
    sentence: str
    hint: str
    status: int = 403


# One row a reason; a test holds that every member has one, and that every row has a page under docs/reasons.
TEXTS: dict[Reason, ReasonText] = {
    Reason.RULE_ALLOW: ReasonText("allowed by a rule", "A rule of the policy allows this request.", "", 200),
    Reason.DEFAULT_ALLOW: ReasonText(
        "allowed by default", "No rule matched, and the policy's default is allow.", "", 200
    ),
    Reason.WOULD_DENY: ReasonText(
        "allowed, would be denied",
        "The policy refuses this request, and passes it on all the same, since it is in report mode.",
        "write `mode: enforce` once what passes so is what should be refused",
        200,
    ),
    Reason.IDENTITY_PLACEHOLDER: ReasonText(
        "answered with a placeholder",
        "The proxy answered a cloud's identity endpoint itself, with a placeholder.",
        "",
        200,
    ),
    Reason.SANDBOX_UNKNOWN: ReasonText(
        "sandbox unknown",
        "The proxy does not know which sandbox this client is.",
        "use the proxy's address with the sandbox's name and token, as in `http://NAME:TOKEN@HOST:PORT`",
    ),
    Reason.HOST_NOT_ALLOWED: ReasonText(
        "host not allowed",
        "No rule of the policy allows this host.",
        "add `allow: HOST` to the policy if the sandbox should reach it",
    ),
    Reason.PORT_NOT_ALLOWED: ReasonText(
        "port not allowed",
        "A rule allows this host, but not on this port.",
        "name the port in the rule, as in `allow: HOST:PORT`",
    ),
    Reason.METHOD_NOT_ALLOWED: ReasonText(
        "method not allowed",
        "A rule allows this host, but not with this method.",
        "add the method to the rule's `methods`; methods are compared in upper and lower case",
    ),
    Reason.PATH_NOT_ALLOWED: ReasonText(
        "path not allowed",
        "A rule allows this host, but not this path.",
        "add the path to the rule's `paths`",
    ),
    Reason.PROTOCOL_NOT_ALLOWED: ReasonText(
        "protocol not allowed",
        "A rule allows this host, but not with this protocol.",
        "name the protocol in the rule's `protocol`: http, https, ws, wss, grpc, tcp or dns",
    ),
    Reason.QUERY_NOT_ALLOWED: ReasonText(
        "query not allowed",
        "A rule allows this host and path, but not with this query.",
        "see the rule's `query`: each name must stand once, spelled so, with a value that its pattern matches",
    ),
    Reason.HEADER_NOT_ALLOWED: ReasonText(
        "header not allowed",
        "A rule allows this host and path, but not with these headers.",
        "see the rule's `headers`: each name must stand once, with a value that its pattern matches",
    ),
    Reason.BODY_NOT_ALLOWED: ReasonText(
        "body not allowed",
        "A rule allows this host and path, but not what the body asks for.",
        "see the rule's `mcp` or `graphql`: every message or operation of the body must be one that it names",
    ),
    Reason.BODY_UNREADABLE: ReasonText(
        "body unreadable",
        "A rule allows this host and path for some bodies only, and this body cannot be judged.",
        "POST plain `application/json`, uncompressed, with the whole document and no name twice in an object",
    ),
    Reason.RULE_EXPIRED: ReasonText(
        "rule expired",
        "A rule allowed this until a moment that has passed.",
        "give the rule a later `until`, or remove it if the access is no longer needed",
    ),
    Reason.RULE_DENY: ReasonText(
        "denied by a rule",
        "A rule of the policy denies this request.",
        "see the rule named here; a deny holds until the rule is changed",
    ),
    Reason.APPROVAL_REQUIRED: ReasonText(
        "approval required",
        "A rule of the policy asks a person before this request may go; approvals are not available, so it is refused.",
        "use `allow` in place of `ask` if no person needs to be asked",
    ),
    Reason.ADDRESS_NOT_ALLOWED: ReasonText(
        "address not allowed",
        "The destination was named by its IP address, and no rule allows that address.",
        "use the host's name, or add `allow: ADDRESS` to the policy",
    ),
    Reason.ADDRESS_NOT_PUBLIC: ReasonText(
        "address not public",
        "The destination has an address that is not on the public Internet, and the rule does not name its range.",
        "add `addresses: [RANGE]` to the rule that allows the host",
    ),
    Reason.ADDRESS_DENIED: ReasonText(
        "address denied",
        "The destination has an address that a rule denies.",
        "an address denial holds whatever its place in the file; change the rule named here",
    ),
    Reason.ADDRESS_IS_PROXY: ReasonText(
        "address is the proxy",
        "The destination is the proxy itself.",
        "connect to the service directly; the proxy never dials its own listeners",
    ),
    Reason.HOST_INVALID: ReasonText(
        "host invalid",
        "The host is not a valid name or address, or could be read in more than one way.",
        "send a plain host name or IP address",
        400,
    ),
    Reason.PORT_INVALID: ReasonText(
        "port invalid", "The port is not a number from 1 to 65535.", "send a valid port", 400
    ),
    Reason.METHOD_INVALID: ReasonText(
        "method invalid", "The method is not a valid HTTP token.", "send a valid method", 400
    ),
    Reason.PATH_AMBIGUOUS: ReasonText(
        "path ambiguous",
        "The path can be read in more than one way, and a rule depends on it.",
        "send a plain path: no dot or empty segments, no backslash, `;` or `*`, nothing encoded that may stand plain",
    ),
    Reason.OVERRIDE_HEADER: ReasonText(
        "override header",
        "The request carries a header that asks the server to use another method, path or host than the rule judged.",
        "remove the header",
    ),
    Reason.NAME_MISMATCH: ReasonText(
        "name mismatch",
        "The names on the request disagree: CONNECT target, SNI and Host must all be one destination.",
        "send the same host everywhere",
    ),
    Reason.SNI_MISSING: ReasonText(
        "SNI missing",
        "The TLS client named no server, so the destination cannot be checked.",
        "use a client that sends SNI",
    ),
    Reason.ECH_REFUSED: ReasonText(
        "encrypted hello refused",
        "The TLS hello hides a second server name, and the connection would pass unopened, so it cannot be checked.",
        "use `tls: inspect`, or turn Encrypted Client Hello off in the client",
    ),
    Reason.REQUEST_MALFORMED: ReasonText(
        "request malformed",
        "The request breaks the rules of HTTP in a way that servers read differently.",
        "send a well-formed request",
        400,
    ),
    Reason.PROTOCOL_UNKNOWN: ReasonText(
        "protocol unknown",
        "The connection carries something that is not HTTP or TLS, and no rule allows raw TCP to this destination.",
        "use HTTP, or a rule with `protocol: tcp`",
    ),
    Reason.UPGRADE_NOT_ALLOWED: ReasonText(
        "upgrade not allowed",
        "The request asks to switch to a protocol that no rule allows.",
        "only WebSocket can be upgraded to; name `ws` or `wss` in the rule's `protocol`",
    ),
    Reason.LIMIT_HEAD: ReasonText(
        "request head too large",
        "The request's head is larger than 64 KB or has more than 100 fields.",
        "send fewer or smaller headers",
        431,
    ),
    Reason.LIMIT_BODY: ReasonText(
        "body too large to judge",
        "A rule needs to see the whole body, and it is larger than what is held for that.",
        "send a smaller body; the limit is `limits: judged_body`",
        413,
    ),
    Reason.LIMIT_CONNECTIONS: ReasonText(
        "too many connections",
        "The client, or all clients together, hold as many connections as they may.",
        "close some first; the limits are `limits: connections` and `connections_per_client`",
        429,
    ),
    Reason.LIMIT_TIME: ReasonText(
        "too slow",
        "The client took longer over a step, or a tunnel lasted longer, than its time limit.",
        "send the request without pauses; a tunnel's own limit is `limits: tunnel_seconds`",
        408,
    ),
    Reason.LIMIT_REQUESTS: ReasonText(
        "too many requests",
        "The sandbox has made as many requests as a rule lets it, or has as many under way.",
        "wait as long as `Retry-After` says; the limits are the rule's `limits`",
        429,
    ),
    Reason.LIMIT_BYTES: ReasonText(
        "too much carried",
        "The sandbox has sent or received as many bytes as a rule lets it, or a tunnel as many as any may.",
        "wait as long as `Retry-After` says; see the rule's `limits`, and for tunnels `limits: tunnel_bytes`",
        429,
    ),
    Reason.LIMIT_MEMORY: ReasonText(
        "too much held",
        "The connection would hold more data in the proxy than it may.",
        "read the response as it arrives, or send less at once",
        503,
    ),
    Reason.CA_CONSTRAINED: ReasonText(
        "outside the CA's name constraints",
        "The connection would be inspected, but the proxy's CA may not sign for this host.",
        "add the host with `egress ca rotate --name-constraint`, or write `tls: tunnel` in its rule",
        403,
    ),
    Reason.CREDENTIAL_UNAVAILABLE: ReasonText(
        "credential unavailable",
        "The rule injects a secret whose value cannot be had, so the request was not sent.",
        "see the proxy's log: the secret's variable or file is missing or empty",
        503,
    ),
    Reason.CREDENTIAL_INSECURE: ReasonText(
        "credential needs TLS",
        "The rule injects a secret, and secrets travel over verified TLS only.",
        "use https",
    ),
    Reason.REQUEST_NOT_SIGNABLE: ReasonText(
        "request not signable",
        "The rule signs requests, and this one cannot be signed anew.",
        "have the client send its body whole or unsigned, signed for one region; see docs/guides/signing.md",
    ),
    Reason.PLACEHOLDER_MISDIRECTED: ReasonText(
        "placeholder misdirected",
        "The request carries the placeholder of a secret to where that secret must not go.",
        "find out what sends it there; a place where it belongs is named by the rule's `inject` or `swap`",
    ),
    Reason.PLACEHOLDER_REQUIRED: ReasonText(
        "placeholder required",
        "The rule swaps the placeholder of a secret, and the request does not carry it where the rule says.",
        "send the placeholder in place of a credential of your own",
    ),
    Reason.IDENTITY_REFUSED: ReasonText(
        "identity endpoint refused",
        "The proxy answers this cloud's identity endpoint itself, and has nothing to give for this request.",
        "see `detail`, and `identity` in the server's configuration",
    ),
    Reason.NAME_NOT_RESOLVED: ReasonText(
        "name not resolved",
        "The name has no address, or the resolver did not answer.",
        "check the name, and the proxy's resolver",
        502,
    ),
    Reason.AUDIT_UNAVAILABLE: ReasonText(
        "audit unavailable",
        "The request could not be recorded, so it was not sent.",
        "see the proxy's log: the audit database cannot be written",
        503,
    ),
    Reason.INTERNAL_ERROR: ReasonText(
        "internal error", "The proxy failed to judge the request, so it was not sent.", "see the proxy's log", 500
    ),
    Reason.SHUTTING_DOWN: ReasonText("shutting down", "The proxy is stopping.", "try again later", 503),
    Reason.UPSTREAM_UNREACHABLE: ReasonText(
        "upstream unreachable", "The request is allowed, but the server could not be reached.", "try again", 502
    ),
    Reason.UPSTREAM_TLS: ReasonText(
        "upstream TLS failed",
        "The request is allowed, but the server's certificate could not be verified.",
        "add the server's CA with --upstream-ca if it is a private one",
        502,
    ),
    Reason.UPSTREAM_MALFORMED: ReasonText(
        "upstream answer malformed",
        "The request is allowed, but the server's answer breaks the rules of HTTP.",
        "the server is at fault; see the proxy's log for what it sent",
        502,
    ),
    Reason.RESPONSE_UNREADABLE: ReasonText(
        "response unreadable",
        "The request carried a secret, and the server's answer cannot be searched for it.",
        "ask for the document in another form; or write `scrub: pass` in the rule, if the server never echoes secrets",
        502,
    ),
    Reason.CLIENT_TLS: ReasonText(
        "client TLS failed",
        "The client did not complete the TLS handshake; it likely does not trust the proxy's CA, or pins its own.",
        "point the client at the CA file that `egress ca path` prints",
        502,
    ),
}
