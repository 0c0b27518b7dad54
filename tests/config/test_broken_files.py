"""Each file under `broken/` is wrong in one way (or several at once), and says exactly this.

A row is a file and every line of its error. The texts are part of the product: whoever changes one changes it here.
"""

# ruff: noqa: E501  a row is one line of output, as people see it

from __future__ import annotations

from pathlib import Path

import pytest

from egress.config import PolicySource, load_policy
from egress.errors import ConfigError
from egress.policy import Scope

BROKEN = Path(__file__).parent / "broken"

EXPECTED: dict[str, tuple[str, ...]] = {
    "addresses_on_deny": (
        "addresses_on_deny.yaml:4: rules[0].addresses: `addresses` says what an allowed name may resolve to, and this rule says `deny`, write the ranges as targets: `deny: [10.0.0.0/8]`",
    ),
    "alias_bomb": ("alias_bomb.yaml:7: rules[4][1]: aliases stand for more than 10000 values, write the values out",),
    "alias_bomb_merged": (
        "alias_bomb_merged.yaml:6: e[0]: aliases stand for more than 10000 values, write the values out",
    ),
    "alias_bomb_nested": (
        "alias_bomb_nested.yaml:5: e[0]: aliases stand for more than 10000 values, write the values out",
    ),
    "alias_of_itself": (
        'alias_of_itself.yaml:3: rules[0]: to YAML, `*r` without quotes is an alias, not text, quote it: `"*r"`',
    ),
    "ampersand_unquoted": (
        'ampersand_unquoted.yaml:3: rules[0].allow: to YAML, `&a.example.com` without quotes is an anchor, not text, quote it: `"&a.example.com"`',
    ),
    "at_sign": ('at_sign.yaml:3: a value cannot begin with `@`, quote the value: `"..."`',),
    "backtick": ('backtick.yaml:3: a value cannot begin with a backtick, quote the value: `"..."`',),
    "bad_addresses": (
        "bad_addresses.yaml:4: rules[0].addresses[0]: `10.0.0.1/8` has bits set outside its range, write `10.0.0.0/8` or `10.0.0.1`",
        "bad_addresses.yaml:4: rules[0].addresses[1]: `0.0.0.0/0` covers every address, name the ranges that are needed",
        "bad_addresses.yaml:4: rules[0].addresses[2]: `db.example.com` is not an address or a CIDR range, write it like `10.0.0.0/8`",
        'bad_addresses.yaml:4: rules[0].addresses[3]: should be text, not a number, put it in quotes: `"7"`',
        "bad_addresses.yaml:4: rules[0].addresses[4]: `fe80::1%eth0` is not an address or a CIDR range, write it like `10.0.0.0/8`",
    ),
    "bad_cidrs": (
        "bad_cidrs.yaml:3: rules[0].allow[0]: `10.0.0.1/8` has bits set outside its range, write `10.0.0.0/8` or `10.0.0.1`",
        "bad_cidrs.yaml:3: rules[0].allow[1]: `10.0.0.0/33` has no valid prefix length, write it like `10.0.0.0/8`",
        "bad_cidrs.yaml:3: rules[0].allow[2]: `10.0.0.0/` has no valid prefix length, write it like `10.0.0.0/8`",
        "bad_cidrs.yaml:3: rules[0].allow[3]: `10.0/8` is not a CIDR range, write it like `10.0.0.0/8`; a path belongs in `paths`",
        "bad_cidrs.yaml:3: rules[0].allow[4]: `10.0.0.0/255.0.0.0` has no valid prefix length, write it like `10.0.0.0/8`",
        "bad_cidrs.yaml:3: rules[0].allow[5]: `10.0.0.0/08` has no valid prefix length, write it like `10.0.0.0/8`",
        "bad_cidrs.yaml:3: rules[0].allow[6]: `fd00::1/8` has bits set outside its range, write `fd00::/8` or `fd00::1`",
        "bad_cidrs.yaml:3: rules[0].allow[7]: `fd00::/129` has no valid prefix length, write it like `10.0.0.0/8`",
        "bad_cidrs.yaml:3: rules[0].allow[8]: `10.0.0.0/-1` has no valid prefix length, write it like `10.0.0.0/8`",
    ),
    "bad_basic": (
        "bad_basic.yaml:5: rules[0].inject.Authorization.basic.user: a user's name holds no colon: the password begins there, write what follows it as `password`",
        "bad_basic.yaml:6: rules[1].inject.Authorization.basic: `password` is missing, write `password: ...`",
        "bad_basic.yaml:7: rules[2].inject.Authorization: `basic` is missing, write `basic: ...`",
        "bad_basic.yaml:7: rules[2].inject.Authorization.bearer: unknown key, write `basic`",
        "bad_basic.yaml:8: rules[3].inject.Authorization: should be text, or `{basic: {user: NAME, password: ...}}`, not a list",
        "bad_basic.yaml:9: rules[4].inject.Authorization: no secret is named `nobody`, write `key`",
        "bad_basic.yaml:10: rules[5].inject.Authorization: the secret `key` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
    ),
    "bad_bodies": (
        "bad_bodies.yaml:4: rules[0].mcp.methods[0]: `tools call` is not a method of MCP, write `tools/call`, or `notifications/*`",
        "bad_bodies.yaml:4: rules[0].mcp.tools: this list is empty, so nothing could match, name at least one, or remove the key",
        "bad_bodies.yaml:4: rules[0].mcp.arguments.repo: should be a pattern for an argument that is text, not a number, write `repo: acme/*`",
        "bad_bodies.yaml:4: rules[0].mcp.arguments.owner: should be a pattern for an argument that is text, not nothing, write `repo: acme/*`",
        "bad_bodies.yaml:6: rules[1].mcp: nothing stands after this key, give it a value, or remove it",
        "bad_bodies.yaml:8: rules[2].mcp.tool: unknown key, did you mean `tools`?",
        "bad_bodies.yaml:10: rules[3].mcp: nothing stands after `tools`, give it a value, or remove it",
        "bad_bodies.yaml:12: rules[4].graphql.operations[0]: unknown word `queries`, did you mean `query`?",
        "bad_bodies.yaml:12: rules[4].graphql.names[0]: `get-issues` is not an operation's name, write letters, digits and `_`, as in `GetIssues`",
        "bad_bodies.yaml:15: rules[5].graphql: a body is one of MCP or one of GraphQL, and no request could meet both, write a rule for each",
        "bad_bodies.yaml:18: rules[6].mcp: `mcp` asks for a body, and none of `methods` has one that it could read, name `POST` in `methods`, or remove it",
        "bad_bodies.yaml:21: rules[7].graphql: raw TCP is carried unread, so `graphql` can never apply, remove it, or name `https` in `protocol`",
        "bad_bodies.yaml:23: rules[8].tls: a tunnel is carried unread, so `mcp` can never apply, write `tls: inspect`, or remove them",
    ),
    "bad_conditions": (
        "bad_conditions.yaml:2: mode: unknown word `audit`, write `enforce` or `report`",
        "bad_conditions.yaml:5: rules[0].query[0]: empty text names no query parameter, write `state=open`, or the name alone",
        "bad_conditions.yaml:5: rules[0].query[2]: `a&b` is encoded, write names and values as they are after decoding, one an entry",
        "bad_conditions.yaml:5: rules[0].query[3]: `state=%6f` is encoded, write names and values as they are after decoding, one an entry",
        "bad_conditions.yaml:5: rules[0].query[4]: should be text, not a mapping, write text",
        "bad_conditions.yaml:6: rules[0].headers[0]: `Host` says where a request ends or goes, and rules cannot change it, remove it",
        "bad_conditions.yaml:6: rules[0].headers[1]: `:path` is a pseudo-header of HTTP/2, name an ordinary header",
        "bad_conditions.yaml:6: rules[0].headers[2]: `x key` is not a header name, write letters, digits and `-`, as in `x-api-key`",
        "bad_conditions.yaml:7: rules[0].until: `2030-01-01` is not a date and time with an offset, write `2026-12-31T18:00:00Z`",
        'bad_conditions.yaml:8: rules[0].annotate["a b"]: `a b` is not a name for a label, write letters, digits, `_`, `.` and `-`: `ticket`',
        "bad_conditions.yaml:8: rules[0].annotate.ticket: a label is one line of 1 to 100 printable characters, write `ticket: OPS-1`",
        "bad_conditions.yaml:11: rules[1].query: this list is empty, so nothing could match, name at least one, or remove the key",
        "bad_conditions.yaml:12: rules[1].until: `2030-13-01T00:00:00Z` is no such time, write `2026-12-31T18:00:00Z`",
        "bad_conditions.yaml:16: rules[2].until: `2030-01-01T00:00:00` is not a date and time with an offset, write `2026-12-31T18:00:00Z`",
        "bad_conditions.yaml:19: rules[3].headers: raw TCP is carried unread, so `headers` can never apply, remove it, or name `https` in `protocol`",
    ),
    "bad_indent": (
        "bad_indent.yaml:4: this line's indentation fits nothing above it, give the keys of one mapping the same indentation, and quote values with special characters",
    ),
    "bad_ipv6": (
        "bad_ipv6.yaml:3: rules[0].allow[6]: `fe80::1%eth0` is not a host: a host holds no colon unless it is an IPv6 address, write a plain host name, an address or a CIDR range",
        "bad_ipv6.yaml:3: rules[0].allow[8]: `[10.0.0.1]` is not an address in brackets, write it like `[2001:db8::1]:443`",
        "bad_ipv6.yaml:3: rules[0].allow[9]: `[2001:db8::1` is not an address in brackets, write it like `[2001:db8::1]:443`",
        "bad_ipv6.yaml:3: rules[0].allow[10]: `2001:db8::1]` is not a host: a host holds no colon unless it is an IPv6 address, write a plain host name, an address or a CIDR range",
        "bad_ipv6.yaml:3: rules[0].allow[11]: `2001:db8::1::2` is not a host: a host holds no colon unless it is an IPv6 address, write a plain host name, an address or a CIDR range",
        "bad_ipv6.yaml:3: rules[0].allow[12]: `[2001:db8::1]443` has text after the brackets, write it like `[2001:db8::1]:443`",
    ),
    "bad_limits": (
        "bad_limits.yaml:4: rules[0].limits.requests: should be text, not a number, write `10/s`, `100/min`, `1000/h` or `5000/day`",
        "bad_limits.yaml:6: rules[1].limits.requests: `10/minute` is not a number of requests in a time, write `10/s`, `100/min`, `1000/h` or `5000/day`",
        "bad_limits.yaml:6: rules[1].limits.concurrent: 0 is outside the numbers from 1 to 1000000000, write `20`",
        "bad_limits.yaml:6: rules[1].limits.upload: `1GB` is not a number of bytes in a time, write `1GB/day`, `500MB/h`, `64KiB/s` or `1000B/min`",
        "bad_limits.yaml:6: rules[1].limits.download: `5 MB / fortnight` is not a number of bytes in a time, write `1GB/day`, `500MB/h`, `64KiB/s` or `1000B/min`",
        "bad_limits.yaml:8: rules[2].limits.burst: `burst` says how many of `requests` may come at once, and there is no `requests`, add `requests: 10/s`, or write `concurrent`",
        "bad_limits.yaml:10: rules[3].limits: this limits nothing, write `limits: {requests: 10/s}`, or remove it",
        "bad_limits.yaml:12: rules[4].limits.requests: a limit of none, or of more than can be counted, is no limit, write `10/s`, `100/min`, `1000/h` or `5000/day`; to refuse all, use `deny`",
        "bad_limits.yaml:12: rules[4].limits.burst: should be a whole number, not true/false, write `20`",
        "bad_limits.yaml:12: rules[4].limits.uploads: unknown key, did you mean `upload`?",
        "bad_limits.yaml:14: rules[5].limits: `limits` holds for what a rule lets pass, and this rule says `deny`, remove it, or move it to the rule that allows",
    ),
    "bad_methods": (
        "bad_methods.yaml:4: rules[0].methods[0]: methods are upper-case, and `get` is another method than `GET`, write `GET`",
        "bad_methods.yaml:4: rules[0].methods[1]: `CONNECT` opens a tunnel and is judged by host and port, remove it from `methods`",
        "bad_methods.yaml:4: rules[0].methods[2]: `TRACE` makes a server send back what it got, injected secrets too, remove it from `methods`",
        "bad_methods.yaml:4: rules[0].methods[3]: `G ET` is not an HTTP method, write upper-case methods, as in `[GET, POST]`",
        "bad_methods.yaml:4: rules[0].methods[4]: `read-only` stands for a whole list of methods, write `methods: read-only`, or name each method",
        'bad_methods.yaml:4: rules[0].methods[5]: should be text, not a number, put it in quotes: `"1"`',
        "bad_methods.yaml:6: rules[1].methods: this list is empty, so nothing could match, name at least one, or remove the key",
        "bad_methods.yaml:8: rules[2].methods: unknown word `readonly`, did you mean `methods: read-only`?",
    ),
    "bad_names": (
        "bad_names.yaml:3: rules[0].name: a name is one line of 1 to 100 printable characters, write `name: model API`",
        "bad_names.yaml:5: rules[1].name: a name is one line of 1 to 100 printable characters, write `name: model API`",
        'bad_names.yaml:7: rules[2].name: should be text, not a number, put it in quotes: `"7"`',
    ),
    "bad_names_of_hosts": (
        "bad_names_of_hosts.yaml:3: rules[0].allow[4]: `xn--a` is not a host: a label that starts with xn-- is not one that IDNA makes, write a plain host name, an address or a CIDR range",
        "bad_names_of_hosts.yaml:3: rules[0].allow[7]: `ex\\xadample.com` is not a host: the host holds a character that no host can show, write a plain host name, an address or a CIDR range",
        "bad_names_of_hosts.yaml:3: rules[0].allow[10]: `-a.example.com` begins with a dash, in YAML write a space after it, in a list file no dash",
        "bad_names_of_hosts.yaml:3: rules[0].allow[11]: `a-.example.com` is not a host: a label holds letters, digits, hyphens and underscores, with no hyphen at its ends, write a plain host name, an address or a CIDR range",
        "bad_names_of_hosts.yaml:3: rules[0].allow[12]: `exämple..com` is not a host: a label of the host is empty, write a plain host name, an address or a CIDR range",
        "bad_names_of_hosts.yaml:3: rules[0].allow[13]: `a.example.com..` is not a host: a label of the host is empty, write a plain host name, an address or a CIDR range",
    ),
    "bad_paths": (
        "bad_paths.yaml:4: rules[0].paths[0]: `v1` does not start with a slash, write `/v1`",
        "bad_paths.yaml:4: rules[0].paths[1]: `/a?b=c` holds a query or fragment, write the path alone; it is matched without its query",
        "bad_paths.yaml:4: rules[0].paths[2]: `/a#b` holds a query or fragment, write the path alone; it is matched without its query",
        "bad_paths.yaml:4: rules[0].paths[3]: `/a*b` holds a `*` inside a segment, `*` stands for one whole segment, `**` for any number",
        "bad_paths.yaml:4: rules[0].paths[4]: `/a/../b` can never match: the path holds dot segments, write the path as clients send it",
        'bad_paths.yaml:4: rules[0].paths[5]: should be text, not a number, put it in quotes: `"7"`',
    ),
    "bad_placeholders": (
        "bad_placeholders.yaml:3: secrets.short.placeholder.value: this is no placeholder: too short, longer than 512, or not plain, write a unique text of 16 or more letters, digits, `-` and `_`, as in `sk-egress-0123456789abcdef`",
        "bad_placeholders.yaml:4: secrets.quoted.placeholder.value: this is no placeholder: too short, longer than 512, or not plain, write a unique text of 16 or more letters, digits, `-` and `_`, as in `sk-egress-0123456789abcdef`",
        "bad_placeholders.yaml:5: secrets.like.placeholder.like: no credentials are known that look like `sk-nobody`, write `sk-ant`, `sk-proj`, `sk-or`, `sk`, `ghp`, `gho`, `ghs`, `github_pat`, `glpat`, `xoxb`, `AIza`, `hf`, `npm`, `gsk`, `jwt` or `plain`",
        "bad_placeholders.yaml:6: secrets.variable.placeholder.env: this is not the name of an environment variable, write its name, as in `GITHUB_TOKEN`",
        "bad_placeholders.yaml:8: secrets.second.placeholder.env: the placeholder of `first` is in the variable `KEY` already, name another variable",
        "bad_placeholders.yaml:9: secrets.third.placeholder.value: this placeholder cannot be told from that of `first`, write another, or none",
        "bad_placeholders.yaml:10: secrets.bound.methods[0]: methods are upper-case, and `post` is another method than `POST`, write `POST`",
        "bad_placeholders.yaml:11: secrets.template.paths[0]: a secret is bound to paths that are written out, without templates, name the paths",
    ),
    "bad_ports": (
        "bad_ports.yaml:4: rules[0].ports[0]: `0` is outside the ports from 1 to 65535, write `443` or `8000-8010`",
        "bad_ports.yaml:4: rules[0].ports[1]: `65536` is outside the ports from 1 to 65535, write `443` or `8000-8010`",
        "bad_ports.yaml:4: rules[0].ports[2]: the range `90-80` ends before it begins, write `80-90`",
        "bad_ports.yaml:4: rules[0].ports[3]: `https` is not a port or a range of ports, write `443` or `8000-8010`",
        "bad_ports.yaml:4: rules[0].ports[4]: should be a port or a range of ports, not true/false, write `443` or `8000-8010`",
        "bad_ports.yaml:4: rules[0].ports[5]: should be a port or a range of ports, not a number, write `443` or `8000-8010`",
        "bad_ports.yaml:4: rules[0].ports[6]: `-1` is not a port or a range of ports, write `443` or `8000-8010`",
        "bad_ports.yaml:6: rules[1].ports: this list is empty, so nothing could match, name at least one, or remove the key",
    ),
    "bad_protocols": (
        "bad_protocols.yaml:4: rules[0].protocol: unknown word `htps`, did you mean `https`?",
        "bad_protocols.yaml:6: rules[1].protocol[1]: unknown word `quic`, write `dns`, `grpc`, `http`, `https`, `tcp`, `ws` or `wss`",
        "bad_protocols.yaml:6: rules[1].protocol[2]: should be `http`, `https`, `ws`, `wss`, `grpc`, `tcp` or `dns`, not a number",
    ),
    "bad_questions": (
        "bad_questions.yaml:5: rules[0].ports: a DNS question is for a name, so `ports` says nothing about it, remove it",
        "bad_questions.yaml:6: rules[0].tls: a DNS question is for a name, so `tls` says nothing about it, remove it",
        "bad_questions.yaml:7: rules[0].limits: a DNS question is for a name, so `limits` says nothing about it, remove it",
        "bad_questions.yaml:8: rules[1].allow[1]: a DNS question is for a name, and this is an address or a range, name hosts, and in `addresses` what they may resolve to",
        "bad_questions.yaml:12: rules[2].methods: a DNS question is for a name, so `methods` can never apply to it, remove it, or write a rule for `dns` of its own",
        "bad_questions.yaml:15: rules[3].inject: a DNS question is for a name, so `inject` can never apply to it, remove it, or write a rule for `dns` of its own",
    ),
    "bad_rewrite": (
        "bad_rewrite.yaml:6: rules[0].rewrite.scheme: unknown word `ftp`, write `http` or `https`",
        "bad_rewrite.yaml:6: rules[0].rewrite.host: `gateway.corp.example:8443` is a host and a port, write the port as `port: 8443`",
        "bad_rewrite.yaml:6: rules[0].rewrite.port: should be one port from 1 to 65535, not `0`, write `port: 8443`",
        "bad_rewrite.yaml:6: rules[0].rewrite.path_prefix.to: `v1` does not start with a slash, write whole segments, as in `/v1` or `/api/v1`",
        "bad_rewrite.yaml:8: rules[1].rewrite.host: `*.corp.example` is no one host, write a host alone, as in `host: gateway.corp.example`",
        "bad_rewrite.yaml:8: rules[1].rewrite.port: should be one port from 1 to 65535, not `443`, write `port: 8443`",
        "bad_rewrite.yaml:8: rules[1].rewrite.path_prefix.from: `/v1/..` is no prefix: the path holds dot segments, write whole segments, as in `/v1` or `/api/v1`",
        "bad_rewrite.yaml:8: rules[1].rewrite.path_prefix.to: `/a%2fb` holds an encoded character, write whole segments, as in `/v1` or `/api/v1`",
        "bad_rewrite.yaml:10: rules[2].rewrite.host: `gateway_.example..com` is not a host: a label of the host is empty, write a host alone, as in `host: gateway.corp.example`",
        "bad_rewrite.yaml:10: rules[2].rewrite.path_prefix: `from` is missing, write `from: ...`",
        "bad_rewrite.yaml:10: rules[2].rewrite.path_prefix.form: unknown key, did you mean `from`?",
        "bad_rewrite.yaml:10: rules[2].rewrite.hosts: unknown key, did you mean `host`?",
        "bad_rewrite.yaml:12: rules[3].rewrite: this states nothing, so nothing is rewritten, name `host`, or remove it",
        "bad_rewrite.yaml:14: rules[4].rewrite.path_prefix: this leaves every path as it is, write another prefix, or remove it",
        "bad_rewrite.yaml:16: rules[5].rewrite: `rewrite` changes a request that goes on, and this rule says `deny`, remove it, or move it to the rule that allows",
        "bad_rewrite.yaml:18: rules[6].tls: a tunnel is carried unread, so `rewrite` can never apply, write `tls: inspect`, or remove them",
        "bad_rewrite.yaml:22: rules[7].rewrite: raw TCP is carried unread, so `rewrite` can never apply, remove it, or name `https` in `protocol`",
        "bad_rewrite.yaml:25: rules[8].rewrite.scheme: gRPC needs HTTP/2, which is spoken inside TLS only, write `scheme: https`",
        "bad_rewrite.yaml:28: rules[9].inject.x-api-key: the secret `model` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
        "bad_rewrite.yaml:31: rules[10].inject.x-api-key: the secret `model` goes over verified TLS only, and `rewrite` leads to `http`, write `scheme: https`",
        "bad_rewrite.yaml:31: rules[10].inject.x-api-key: the secret `model` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
        "bad_rewrite.yaml:33: rules[11].rewrite: nothing stands after this key, give it a value, or remove it",
    ),
    "bad_sign": (
        "bad_sign.yaml:6: rules[0].sign: should say by which scheme it is signed, write `sign: {sigv4: NAME}`",
        "bad_sign.yaml:8: rules[1].sign: this names no scheme, write `{sigv4: NAME}` or `{hmac: {secret: NAME, ...}}`",
        "bad_sign.yaml:10: rules[2].sign: a request is signed once, and this has `sigv4` and `hmac`, keep one of them",
        "bad_sign.yaml:12: rules[3].sign.regoin: unknown key, did you mean `region`?",
        "bad_sign.yaml:14: rules[4].sign.sigv4: no secret is named `other`, write `aws`",
        "bad_sign.yaml:16: rules[5].sign.region: `eu west` is no name that AWS gives, write it as in `region: eu-west-1`",
        "bad_sign.yaml:16: rules[5].sign.service: empty text is no name that AWS gives, write it as in `region: eu-west-1`",
        "bad_sign.yaml:18: rules[6].sign: `region` belongs to `sigv4`, remove it",
        "bad_sign.yaml:20: rules[7].sign.hmac.message: unknown variable `tmestamp`, did you mean `timestamp`?",
        "bad_sign.yaml:20: rules[7].sign.hmac.header: `Host` says where a request ends or goes, and rules cannot change it, remove it",
        "bad_sign.yaml:20: rules[7].sign.hmac.value: unknown variable `body`, write `nonce`, `signature`, `timestamp`, `timestamp_ms` or `timestamp_rfc3339`",
        "bad_sign.yaml:20: rules[7].sign.hmac.algorithm: unknown word `md5`, write `sha1`, `sha256` or `sha512`",
        "bad_sign.yaml:22: rules[8].sign.hmac.message: this message is the same for every request, name what is signed, as in `${method} ${path}`",
        "bad_sign.yaml:22: rules[8].sign.hmac.value: a `$` that begins no `${name}`, close the brace, or write `$$` for a dollar sign",
        "bad_sign.yaml:22: rules[8].sign.hmac.encoding: unknown word `hex2`, did you mean `hex`?",
        "bad_sign.yaml:24: rules[9].sign.hmac.message: `X Y` is not a header name, write `${header:X-Date}`",
        "bad_sign.yaml:26: rules[10].sign.hmac: two of these headers are the same, keep one of them",
        "bad_sign.yaml:28: rules[11].sign: `sign` changes a request that goes on, and this rule says `deny`, remove it, or move it to the rule that allows",
        "bad_sign.yaml:30: rules[12].tls: a tunnel is carried unread, so `sign` can never apply, write `tls: inspect`, or remove them",
        "bad_sign.yaml:34: rules[13].sign.sigv4: the secret `aws` goes over verified TLS only, and `protocol` names none, name `https` in `protocol`",
        "bad_sign.yaml:37: rules[14].sign: raw TCP is carried unread, so `sign` can never apply, remove it, or name `https` in `protocol`",
        "bad_sign.yaml:37: rules[14].sign.sigv4: the secret `aws` goes over verified TLS only, and `protocol` names none, name `https` in `protocol`",
        "bad_sign.yaml:37: rules[14].sign.sigv4: the secret `aws` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
        "bad_sign.yaml:39: rules[15].sign.sigv4: the secret `aws` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
        "bad_sign.yaml:41: rules[16].inject: `authorization` is set by the signature of `sign`, remove it here",
        "bad_sign.yaml:42: rules[16].remove: `X-Amz-Date` is set by the signature of `sign`, remove it here",
        "bad_sign.yaml:45: rules[17].sign: nothing stands after this key, give it a value, or remove it",
    ),
    "bad_scrub": (
        "bad_scrub.yaml:7: rules[0].scrub: unknown word `off`, write `pass` or `refuse`",
        "bad_scrub.yaml:9: rules[1].scrub: `scrub: pass` is about answers to requests with secrets, and this rule injects none, remove it, or move it to the rule that injects",
        "bad_scrub.yaml:11: rules[2].scrub: `scrub` changes a request that goes on, and this rule says `deny`, remove it, or move it to the rule that allows",
        "bad_scrub.yaml:13: rules[3].tls: a tunnel is carried unread, so `scrub` can never apply, write `tls: inspect`, or remove them",
    ),
    "bad_target_ports": (
        "bad_target_ports.yaml:3: rules[0].allow[0]: `a.example.com:0` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_target_ports.yaml:3: rules[0].allow[1]: `a.example.com:65536` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_target_ports.yaml:3: rules[0].allow[2]: `a.example.com:` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_target_ports.yaml:3: rules[0].allow[3]: `a.example.com:http` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_target_ports.yaml:3: rules[0].allow[4]: `a.example.com:080` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_target_ports.yaml:3: rules[0].allow[5]: `a.example.com:+1` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_target_ports.yaml:3: rules[0].allow[6]: `10.0.0.1:99999` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_target_ports.yaml:3: rules[0].allow[7]: `a.example.com:1-2` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_target_ports.yaml:3: rules[0].allow[8]: `:443` names no host, write it before the port; `ports` says which for a whole rule",
        "bad_target_ports.yaml:3: rules[0].allow[9]: `a.example.com:443:443` is not a host: a host holds no colon unless it is an IPv6 address, write a plain host name, an address or a CIDR range",
    ),
    "bad_swaps": (
        "bad_swaps.yaml:6: rules[0].swap[0].secret: the secret `bare` has no placeholder, so there is nothing to swap, add `placeholder: {env: VARIABLE}` to it, or write `inject`",
        "bad_swaps.yaml:7: rules[1].swap[0].secret: no secret is named `nobody`, write `bare` or `held`",
        "bad_swaps.yaml:8: rules[2].swap: this names no place, so nothing is swapped, write `headers: [x-api-key]`",
        "bad_swaps.yaml:9: rules[3].swap[0].in: a secret in `query`, `body` goes only to paths that the rule names, and it names none, add `paths` that take a credential there, or swap it in `headers`",
        "bad_swaps.yaml:10: rules[4].swap[0].in: `body`: none of `methods` has one, name `POST` in `methods`, or another place",
        "bad_swaps.yaml:10: rules[4].swap[0].secret: the secret `held` is bound to none of this rule's methods, add them to the secret's `methods`, or name another secret",
        "bad_swaps.yaml:11: rules[5].swap[0].headers: this header stands here twice, keep one of them",
        "bad_swaps.yaml:11: rules[5].swap[0].headers: `x-b` is injected, which replaces what the client sent, keep one of them",
        "bad_swaps.yaml:11: rules[5].swap[0].headers: `x-c` stands in `remove` too, remove it from `remove`",
        "bad_swaps.yaml:12: rules[6].swap[1].secret: the secret `held` is swapped here already, write one `swap` with all its places",
        "bad_swaps.yaml:13: rules[7].swap: `swap` changes a request that goes on, and this rule says `deny`, remove it, or move it to the rule that allows",
        "bad_swaps.yaml:14: rules[8].strip_own: `strip_own` changes a request that goes on, and this rule says `deny`, remove it, or move it to the rule that allows",
        "bad_swaps.yaml:15: rules[9].tls: a tunnel is carried unread, so `swap` can never apply, write `tls: inspect`, or remove them",
        "bad_swaps.yaml:16: rules[10].swap: raw TCP is carried unread, so `swap` can never apply, remove it, or name `https` in `protocol`",
        "bad_swaps.yaml:16: rules[10].swap[0].secret: the secret `held` goes over verified TLS only, and `protocol` names none, name `https` in `protocol`",
        "bad_swaps.yaml:16: rules[10].swap[0].secret: the secret `held` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
        "bad_swaps.yaml:17: rules[11].swap[0].secret: the secret `held` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
        "bad_swaps.yaml:18: rules[12].swap[0].in: unknown word `header`, write `body`, `path` or `query`",
        "bad_swaps.yaml:19: rules[13].swap[0].header: unknown key, did you mean `headers`?",
        "bad_swaps.yaml:20: rules[14].swap: should be a mapping, not text, write `{key: value}`",
    ),
    "bad_targets": (
        "bad_targets.yaml:3: rules[0].allow[0]: `*` is not a target, write `**` for any name, or better the hosts that are needed",
        "bad_targets.yaml:3: rules[0].allow[1]: `*.com` covers names that anyone can register, name more of the host, like `*.example.com`, or write `**` if any name is meant",
        "bad_targets.yaml:3: rules[0].allow[2]: `al*ed.example.com` holds a `*` that is not a whole first label, write `*.ed.example.com` for all names below, or `.ed.example.com` for the name and all below",
        "bad_targets.yaml:3: rules[0].allow[3]: `https://api.example.com` is a URL, write the host alone, and the rest as `ports` and `paths`",
        "bad_targets.yaml:3: rules[0].allow[4]: `api.example.com:0` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "bad_targets.yaml:3: rules[0].allow[5]: `a..example.com` is not a host: a label of the host is empty, write a plain host name, an address or a CIDR range",
        'bad_targets.yaml:3: rules[0].allow[6]: should be text, not a number, put it in quotes: `"127.1"`',
        "bad_targets.yaml:3: rules[0].allow[7]: `10.0.0.1/8` has bits set outside its range, write `10.0.0.0/8` or `10.0.0.1`",
        "bad_targets.yaml:3: rules[0].allow[8]: `0.0.0.0/0` covers every address, name the ranges that are needed",
        "bad_targets.yaml:3: rules[0].allow[9]: `*.co.uk` covers names that anyone can register, name more of the host, like `*.example.co.uk`, or write `**` if any name is meant",
        "bad_targets.yaml:4: rules[1].deny[0]: `*` is not a target, write `**` for any name, or better the hosts that are needed",
        "bad_targets.yaml:4: rules[1].deny[1]: `a b` holds a space, write one target an entry",
    ),
    "bidirectional": (
        'bidirectional.yaml:3: the character U+202E hides what the file says, remove it, or write it as an escape in `"..."`',
    ),
    "byte_order_mark": (
        "byte_order_mark.yaml:1: the file begins with a byte order mark, save it as UTF-8 without a byte order mark",
    ),
    "carriage_return": (
        "carriage_return.yaml:1: a carriage return stands in the middle of this line, end each line with a line feed",
    ),
    "colon_in_value": (
        "colon_in_value.yaml:3: a `: ` stands where no key can be, quote the value if it holds `: `, else check the indentation",
    ),
    "control_character": (
        'control_character.yaml:3: YAML does not allow the character U+0007, remove it, or write it as an escape in `"..."`',
    ),
    "dash_without_space": (
        'dash_without_space.yaml:3: ["-allow"]: unknown key, write a space after the `-` that begins a rule',
    ),
    "default_boolean": ("default_boolean.yaml:2: default: should be `allow`, `deny` or `ask`, not true/false",),
    "default_no": ("default_no.yaml:2: default: unknown word `no`, write `allow`, `ask` or `deny`",),
    "default_nothing": (
        "default_nothing.yaml:2: default: nothing stands after this key, give it a value, or remove it",
    ),
    "default_unknown": ("default_unknown.yaml:2: default: unknown word `denied`, did you mean `deny`?",),
    "directive": ("directive.yaml:2: a `%` directive is not allowed, remove it; the file is read as YAML 1.2",),
    "double_star_unquoted": (
        'double_star_unquoted.yaml:3: rules[0].deny: to YAML, `**` without quotes is an alias, not text, quote it: `"**"`',
    ),
    "duplicate_key": (
        "duplicate_key.yaml:3: default: this key stands here twice, first on line 2, keep one of them",
        "duplicate_key.yaml:6: rules[0].allow: this key stands here twice, first on line 5, keep one of them",
    ),
    "duplicate_top_keys": (
        "duplicate_top_keys.yaml:2: version: this key stands here twice, first on line 1, keep one of them",
        "duplicate_top_keys.yaml:4: rules: this key stands here twice, first on line 3, keep one of them",
    ),
    "empty": ("empty.yaml:1: the file is empty, write `version: 1`, which alone denies everything",),
    "empty_rules": (
        "empty_rules.yaml:3: rules[0]: a rule needs `allow`, `deny` or `ask`, write `allow: api.example.com`",
        "empty_rules.yaml:4: rules[1]: a rule needs `allow`, `deny` or `ask`, write `allow: api.example.com`",
        "empty_rules.yaml:5: rules[2]: should be a mapping of keys, not nothing",
    ),
    "every_type": (
        "every_type.yaml:1: version: should be the number 1, not a list, write `version: 1`",
        "every_type.yaml:2: default: should be `allow`, `deny` or `ask`, not a list",
        "every_type.yaml:3: mode: should be `enforce` or `report`, not a mapping",
        "every_type.yaml:4: tls: should be `tunnel`, `auto` or `inspect`, not a number",
        "every_type.yaml:5: secrets: should be a mapping of names, not a number, write `github: {env: GITHUB_TOKEN, hosts: [...]}`",
        "every_type.yaml:6: include: should be a list, not a mapping, write `[a, b]`",
        "every_type.yaml:8: rules[0].allow: `file` is missing, write `{file: lists/hosts.txt}`",
        "every_type.yaml:8: rules[0].allow.a: unknown key, write `file`",
        "every_type.yaml:9: rules[1].allow[0]: should be text, not a list, write text",
        'every_type.yaml:10: rules[2].allow: should be text, not a number, put it in quotes: `"7"`',
        "every_type.yaml:12: rules[3].methods: should be a list, not a mapping, write `[a, b]`",
        'every_type.yaml:13: rules[3].paths: should be text, not a number, put it in quotes: `"7"`',
        "every_type.yaml:14: rules[3].query: should be a list, not a mapping, write `[a, b]`",
        'every_type.yaml:15: rules[3].headers: should be text, not a number, put it in quotes: `"7"`',
        "every_type.yaml:16: rules[3].ports: should be a list, not a mapping, write `[a, b]`",
        "every_type.yaml:17: rules[3].protocol: should be a list, not a mapping, write `[a, b]`",
        "every_type.yaml:18: rules[3].inject: should be a mapping, not a list, write `{key: value}`",
        "every_type.yaml:19: rules[3].remove: should be a list, not a mapping, write `[a, b]`",
        'every_type.yaml:20: rules[3].addresses: should be text, not a number, put it in quotes: `"10"`',
        "every_type.yaml:21: rules[3].http2: should be true or false, not a list",
        "every_type.yaml:22: rules[3].ignore_case: should be true or false, not `yes`",
        'every_type.yaml:23: rules[3].until: should be text, not a number, put it in quotes: `"7"`',
        "every_type.yaml:24: rules[3].annotate: should be a mapping, not a list, write `{key: value}`",
        "every_type.yaml:25: rules[3].tls: should be `tunnel`, `auto` or `inspect`, not a list",
        "every_type.yaml:26: rules[3].name: should be text, not a list, write text",
    ),
    "http2_on_deny": (
        "http2_on_deny.yaml:4: rules[0].http2: `http2` says how an allowed connection is carried, and this rule says `deny`, remove it, or move it to the rule that allows",
        "http2_on_deny.yaml:6: rules[1].http2: `http2` says how an allowed connection is carried, and this rule says `ask`, remove it, or move it to the rule that allows",
    ),
    "http2_without_tls": (
        "http2_without_tls.yaml:7: rules[0].http2: HTTP/2 is agreed on in TLS, and `protocol` names neither `https` nor `grpc`, name `https` in `protocol`, or remove it",
        "http2_without_tls.yaml:11: rules[1].http2: HTTP/2 is agreed on in TLS, and `protocol` names neither `https` nor `grpc`, name `https` in `protocol`, or remove it",
        "http2_without_tls.yaml:16: rules[2].http2: HTTP/2 is agreed on in TLS, and `protocol` names neither `https` nor `grpc`, name `https` in `protocol`, or remove it",
        "http2_without_tls.yaml:19: rules[3].http2: raw TCP is carried unread, so `http2` can never apply, remove it, or name `https` in `protocol`",
        "http2_without_tls.yaml:19: rules[3].http2: the file's `tls: tunnel` carries TLS unread, so `http2` can never apply to it, add `tls: inspect` to the rule",
        "http2_without_tls.yaml:21: rules[4].tls: a tunnel is carried unread, so `http2` can never apply, write `tls: inspect`, or remove them",
        "http2_without_tls.yaml:24: rules[5].http2: the file's `tls: tunnel` carries TLS unread, so `http2` can never apply to it, add `tls: inspect` to the rule",
    ),
    "http2_word": (
        "http2_word.yaml:4: rules[0].http2: should be true or false, not `yes`",
        "http2_word.yaml:6: rules[1].http2: should be true or false, not `1`",
        "http2_word.yaml:8: rules[2].http2: nothing stands after this key, give it a value, or remove it",
    ),
    "include_types": (
        "include_types.yaml:2: include[0]: should be a mapping, not a number, write `{key: value}`",
        "include_types.yaml:2: include[1]: should be a mapping, not a list, write `{key: value}`",
        'include_types.yaml:2: include[2].preset: should be text, not a number, put it in quotes: `"7"`',
        "include_types.yaml:2: include[3]: `preset` is missing, write `preset: ...`",
        "include_types.yaml:2: include[5]: should be a mapping, not nothing, write `{key: value}`",
    ),
    "include_unknown": (
        "include_unknown.yaml:3: include[0].preset: `Pypi` is not a preset's name, write the name alone, as in `github`",
        "include_unknown.yaml:4: include[1].preset: `./x.yaml` is not a preset's name, write the name alone, as in `github`",
        "include_unknown.yaml:5: include[2].preset: empty text is not a preset's name, write the name alone, as in `github`",
        "include_unknown.yaml:6: include[3].preset: no preset is named `pypy`, did you mean `pypi`?",
    ),
    "indent_between": (
        "indent_between.yaml:5: this line's indentation fits nothing above it, give the keys of one mapping the same indentation, and quote values with special characters",
    ),
    "indent_too_deep": (
        "indent_too_deep.yaml:4: a `: ` stands where no key can be, quote the value if it holds `: `, else check the indentation",
    ),
    "inject_bad_headers": (
        "inject_bad_headers.yaml:5: rules[0].inject.Host: `Host` says where a request ends or goes, and rules cannot change it, remove it",
        "inject_bad_headers.yaml:6: rules[0].inject.content-length: `content-length` says where a request ends or goes, and rules cannot change it, remove it",
        "inject_bad_headers.yaml:7: rules[0].inject.Transfer-Encoding: `Transfer-Encoding` says where a request ends or goes, and rules cannot change it, remove it",
        "inject_bad_headers.yaml:8: rules[0].inject.connection: `connection` says where a request ends or goes, and rules cannot change it, remove it",
        'inject_bad_headers.yaml:9: rules[0].inject[":path"]: `:path` is a pseudo-header of HTTP/2, name an ordinary header',
        'inject_bad_headers.yaml:10: rules[0].inject["x y"]: `x y` is not a header name, write letters, digits and `-`, as in `x-api-key`',
        "inject_bad_headers.yaml:11: rules[0].inject.X-Egress-Decision: `X-Egress-Decision` is a header of egress itself, name another header",
        "inject_bad_headers.yaml:12: rules[0].inject.Proxy-Authorization: `Proxy-Authorization` says where a request ends or goes, and rules cannot change it, remove it",
        "inject_bad_headers.yaml:13: rules[0].remove[0]: `Host` says where a request ends or goes, and rules cannot change it, remove it",
        "inject_bad_headers.yaml:13: rules[0].remove[1]: `a b` is not a header name, write letters, digits and `-`, as in `x-api-key`",
    ),
    "inject_bad_templates": (
        "inject_bad_templates.yaml:5: rules[0].inject.x-a: a `$` that begins no `${name}`, close the brace, or write `$$` for a dollar sign",
        "inject_bad_templates.yaml:6: rules[0].inject.x-b: empty text is not a secret's name, write letters, digits, `_` and `-`: `${github}`",
        "inject_bad_templates.yaml:7: rules[0].inject.x-c: a `$` that begins no `${name}`, close the brace, or write `$$` for a dollar sign",
        "inject_bad_templates.yaml:8: rules[0].inject.x-d: a header's value has no space at its ends and is not empty, write `Bearer ${name}`",
        "inject_bad_templates.yaml:9: rules[0].inject.x-e: a header's value is printable ASCII, remove the other characters",
        "inject_bad_templates.yaml:10: rules[0].inject.x-f: a header's value has no space at its ends and is not empty, write `Bearer ${name}`",
        "inject_bad_templates.yaml:11: rules[0].inject.x-g: should be text, not a number",
        "inject_bad_templates.yaml:12: rules[0].inject.x-h: `a b` is not a secret's name, write letters, digits, `_` and `-`: `${github}`",
    ),
    "inject_on_deny": (
        "inject_on_deny.yaml:6: rules[0].inject: `inject` changes a request that goes on, and this rule says `deny`, remove it, or move it to the rule that allows",
        "inject_on_deny.yaml:8: rules[1].remove: `remove` changes a request that goes on, and this rule says `ask`, remove it, or move it to the rule that allows",
    ),
    "inject_over_plain_http": (
        "inject_over_plain_http.yaml:7: rules[0].inject.Authorization: the secret `github` goes over verified TLS only, and `protocol` names none, name `https` in `protocol`",
    ),
    "inject_same_header_twice": (
        "inject_same_header_twice.yaml:4: rules[0].inject.x-key: the same header as `X-Key`, in another spelling, keep one of them",
        "inject_same_header_twice.yaml:5: rules[0].remove: `x-KEY` is injected, which replaces what the client sent, remove it from `remove`",
    ),
    "inject_secret_bound_elsewhere": (
        "inject_secret_bound_elsewhere.yaml:6: rules[0].inject.Authorization: the secret `github` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
        "inject_secret_bound_elsewhere.yaml:8: rules[1].inject.Authorization: the secret `github` is bound to none of this rule's hosts, add the hosts to the secret's `hosts`, or name another secret",
    ),
    "inject_unknown_secret": (
        "inject_unknown_secret.yaml:6: rules[0].inject.Authorization: no secret is named `githb`, did you mean `github`?",
    ),
    "inject_without_secrets": (
        "inject_without_secrets.yaml:4: rules[0].inject.Authorization: no secret is named `github`, define it under `secrets`",
    ),
    "ipv6_port_in_block_list_unquoted": (
        'ipv6_port_in_block_list_unquoted.yaml:4: to YAML, `[2001:db8::1]:443` without quotes begins a list, quote it: `"[2001:db8::1]:443"`',
    ),
    "ipv6_port_unquoted": (
        'ipv6_port_unquoted.yaml:3: to YAML, `[2001:db8::1]:443` without quotes begins a list, quote it: `"[2001:db8::1]:443"`',
    ),
    "key_in_two_cases": (
        "key_in_two_cases.yaml:2: Default: unknown key, did you mean `default`?",
        "key_in_two_cases.yaml:6: rules[0].Allow: unknown key, did you mean `allow`?",
    ),
    "key_without_colon": (
        "key_without_colon.yaml:2: a `: ` stands where no key can be, quote the value if it holds `: `, else check the indentation",
    ),
    "key_without_space": (
        "key_without_space.yaml:4: a key's `:` stands without a space after it, here or on the line above, write `key: value`",
    ),
    "key_of_the_server": (
        "key_of_the_server.yaml:3: deny_page: unknown key, write `default`, `include`, `mode`, `report_below`, `resolvers`, `rules`, `secrets`, `tls` or `version`",
    ),
    "keys_upper_case": (
        "keys_upper_case.yaml:1: `version` is missing, write `version: 1`",
        "keys_upper_case.yaml:1: Version: unknown key, did you mean `version`?",
        "keys_upper_case.yaml:2: Rules: unknown key, did you mean `rules`?",
    ),
    "latin1": ("latin1.yaml:2: byte 0xe9 is not UTF-8, save it as UTF-8",),
    "resolver_names": (
        "resolver_names.yaml:2: resolvers[0]: `dns.example.com` is not an address and port, write `10.0.0.53`, or `10.0.0.53:5353`",
        "resolver_names.yaml:2: resolvers[1]: port 0 is no port to ask, write `10.0.0.53`, or `10.0.0.53:5353`",
    ),
    "resolvers_empty": (
        "resolvers_empty.yaml:2: resolvers: there is nobody to ask, write `10.0.0.53`, or `10.0.0.53:5353`",
    ),
    "line_separator": (
        'line_separator.yaml:2: the character U+2028 hides what the file says, remove it, or write it as an escape in `"..."`',
    ),
    "list_as_key": (
        'list_as_key.yaml:4: rules[0]: a key should be text, not a list or mapping, quote text that begins with `{` or `[`, as in `"${name}"`',
    ),
    "list_dashes_without_space": (
        "list_dashes_without_space.yaml:3: rules[0].allow: `-a.example.com -b.example.com` begins with a dash, in YAML write a space after it, in a list file no dash",
    ),
    "list_file_bad_key": (
        "list_file_bad_key.yaml:3: rules[0].allow: `file` is missing, write `{file: lists/hosts.txt}`",
        "list_file_bad_key.yaml:3: rules[0].allow.fil: unknown key, did you mean `file`?",
        'list_file_bad_key.yaml:4: rules[1].deny.file: should be text, not a number, put it in quotes: `"7"`',
        "list_file_bad_key.yaml:5: rules[2].deny.file: empty text is not a path, write a file's path",
    ),
    "list_file_missing": (
        "list_file_missing.yaml:3: rules[0].allow.file: lists/none.txt: no such file, check the path; it is taken from the policy's folder",
    ),
    "list_file_not_text": (
        "list_file_not_text.yaml:6: rules[3].deny.file: lists: this is a folder, give a file's path; it is taken from the policy's folder",
        "list_file_not_text.yaml:7: rules[4].deny.file: should be text, not a list, write text",
        "list_file_not_text.yaml:8: rules[5].deny.file: should be text, not nothing, write text",
        "lists/binary.txt:2: byte 0x80 is not UTF-8, save it as UTF-8",
        "lists/utf16.txt:1: the file is UTF-16, save it as UTF-8 without a byte order mark",
        "lists/nul.txt:1: `a.example.com\\x00` is not a host: a host holds no control character or space, write a plain host name, an address or a CIDR range",
    ),
    "list_file_odd": (
        "lists/odd.txt:1: `127.0.0.1 ads.example.com` is a line of a hosts file, write the name alone",
        "lists/odd.txt:2: `- a.example.com` begins with a dash, in YAML write a space after it, in a list file no dash",
        'lists/odd.txt:3: `"a.example.com"` holds its quotes, in YAML quote with a plain `"`, in a list file not at all',
        "lists/odd.txt:4: `a.example.com, b.example.com` holds a comma, in YAML write `[a, b]`, in a list file one a line",
        "lists/odd.txt:5: `a.example.com b.example.com` holds a space, write one target an entry",
        "lists/odd.txt:6: `http://b.example.com` is a URL, write the host alone, and the rest as `ports` and `paths`",
        "lists/odd.txt:7: `||ads.example.com^` is not a host: a label holds letters, digits, hyphens and underscores, with no hyphen at its ends, write a plain host name, an address or a CIDR range",
        "lists/odd.txt:8: `a.example.com:99999` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "lists/odd.txt:9: `10.0.0.1/8` has bits set outside its range, write `10.0.0.0/8` or `10.0.0.1`",
        "lists/odd.txt:10: `*.com` covers names that anyone can register, name more of the host, like `*.example.com`, or write `**` if any name is meant",
    ),
    "list_file_wrong": (
        "lists/wrong.txt:3: the port stands here and in `ports` of the rule on line 3 of list_file_wrong.yaml, keep one",
        "lists/wrong.txt:5: `*.com` covers names that anyone can register, name more of the host, like `*.example.com`, or write `**` if any name is meant",
        "lists/wrong.txt:6: `[2001:db8::1` is not an address in brackets, write it like `[2001:db8::1]:443`",
        "lists/wrong.txt:7: `https://a.example.com/` is a URL, write the host alone, and the rest as `ports` and `paths`",
    ),
    "list_not_closed": (
        "list_not_closed.yaml:4: a list opened with `[` is not closed, or a `,` is missing, write `[a, b]`",
    ),
    "many_at_once": (
        "many_at_once.yaml:1: version: this version of egress reads policies of version 1, not 3, write `version: 1`",
        "many_at_once.yaml:2: defalt: unknown key, did you mean `default`?",
        "many_at_once.yaml:4: rules[0].allow: `*.com` covers names that anyone can register, name more of the host, like `*.example.com`, or write `**` if any name is meant",
        "many_at_once.yaml:5: rules[0].methods[0]: methods are upper-case, and `get` is another method than `GET`, write `GET`",
        "many_at_once.yaml:7: rules[1].inject.Host: `Host` says where a request ends or goes, and rules cannot change it, remove it",
        "many_at_once.yaml:8: rules[2].alow: unknown key, did you mean `allow`?",
    ),
    "mapping_not_closed": (
        "mapping_not_closed.yaml:3: a mapping opened with `{` is not closed, or a `,` is missing, write `{key: value, key: value}`",
    ),
    "merge_of_itself": (
        'merge_of_itself.yaml:4: rules[0]["<<"]: to YAML, `*base` without quotes is an alias, not text, quote it: `"*base"`',
    ),
    "merge_of_no_mapping": (
        "merge_of_no_mapping.yaml:3: rules[0]: `<<` takes the keys of a mapping, and this is text, write `<<: *name`, where `&name` stands before a mapping",
        "merge_of_no_mapping.yaml:5: rules[1]: `<<` takes the keys of a mapping, and this is text, write `<<: *name`, where `&name` stands before a mapping",
        "merge_of_no_mapping.yaml:7: rules[2]: `<<` takes the keys of a mapping, and this is nothing, write `<<: *name`, where `&name` stands before a mapping",
    ),
    "merge_of_wrong_value": (
        "merge_of_wrong_value.yaml:3: rules[0].methods[0]: methods are upper-case, and `get` is another method than `GET`, write `GET`",
        "merge_of_wrong_value.yaml:4: rules[1].methods: methods are upper-case, and `get` is another method than `GET`, write `GET`",
    ),
    "merge_twice": ("merge_twice.yaml:5: rules[1]: `<<` stands here twice, write `<<: [*one, *other]`",),
    "no_break_space": (
        'no_break_space.yaml:4: ["\\xa0\\xa0methods"]: unknown key, it holds a space that is none to YAML; write plain spaces',
    ),
    "no_verb": ("no_verb.yaml:3: rules[0]: a rule needs `allow`, `deny` or `ask`, write `allow: api.example.com`",),
    "not_a_mapping": (
        "not_a_mapping.yaml:1: the top of the file should be a mapping of keys, not a list, start with `version: 1`",
    ),
    "nul": ('nul.yaml:2: YAML does not allow the character U+0000, remove it, or write it as an escape in `"..."`',),
    "number_as_key": ('number_as_key.yaml:4: rules[0].inject: a key should be text, not a number, quote it: `"1"`',),
    "numbers_as_text": (
        'numbers_as_text.yaml:6: rules[1].deny[2]: should be text, not a number, put it in quotes: `"3.10"`',
        'numbers_as_text.yaml:6: rules[1].deny[3]: should be text, not a number, put it in quotes: `"012"`',
        "numbers_as_text.yaml:6: rules[1].deny[4]: `1` is not a host: a host whose last label is a number must be an address of four decimal numbers, write a plain host name, an address or a CIDR range",
        'numbers_as_text.yaml:6: rules[1].deny[5]: should be text, not a number, put it in quotes: `"0x1f"`',
        'numbers_as_text.yaml:6: rules[1].deny[6]: should be text, not a number, put it in quotes: `"1e3"`',
        "numbers_as_text.yaml:6: rules[1].deny[7]: `.inf` covers names that anyone can register, name more of the host, like `*.example.inf`, or write `**` if any name is meant",
        "numbers_as_text.yaml:6: rules[1].deny[8]: should be text, not nothing, write text",
        "numbers_as_text.yaml:6: rules[1].deny[9]: should be text, not nothing, write text",
        'numbers_as_text.yaml:6: rules[1].deny[11]: should be text, not true/false, put it in quotes: `"true"`',
        'numbers_as_text.yaml:7: rules[2].name: should be text, not a number, put it in quotes: `"012"`',
        'numbers_as_text.yaml:9: rules[2].annotate.ticket: should be text, not a number, put it in quotes: `"012"`',
        'numbers_as_text.yaml:9: rules[2].annotate.d: should be text, not true/false, put it in quotes: `"true"`',
        'numbers_as_text.yaml:9: rules[2].annotate.e: should be text, not a number, put it in quotes: `"3.10"`',
        'numbers_as_text.yaml:10: rules[3].name: should be text, not a number, put it in quotes: `"3.10"`',
        'numbers_as_text.yaml:12: rules[4].name: should be text, not true/false, put it in quotes: `"true"`',
    ),
    "odd_hosts": (
        "odd_hosts.yaml:3: rules[0].allow[2]: `*.com` covers names that anyone can register, name more of the host, like `*.example.com`, or write `**` if any name is meant",
        "odd_hosts.yaml:3: rules[0].allow[3]: `*` is not a target, write `**` for any name, or better the hosts that are needed",
        "odd_hosts.yaml:3: rules[0].allow[4]: `**.example.com` holds a `*` that is not a whole first label, write `*.example.com` for all names below, or `.example.com` for the name and all below",
        "odd_hosts.yaml:3: rules[0].allow[5]: `a.*.com` holds a `*` that is not a whole first label, write `*.example.com` for all names below, or `.example.com` for the name and all below",
        "odd_hosts.yaml:3: rules[0].allow[6]: `*.*.com` is not a host pattern: a host holds no wildcard, write it like `*.example.com`",
        "odd_hosts.yaml:3: rules[0].allow[7]: `user@a.example.com` is not a host: a host holds no user information, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[8]: `a.example.com/path` is not a CIDR range, write it like `10.0.0.0/8`; a path belongs in `paths`",
        "odd_hosts.yaml:3: rules[0].allow[9]: `https://a.example.com` is a URL, write the host alone, and the rest as `ports` and `paths`",
        "odd_hosts.yaml:3: rules[0].allow[10]: `//a.example.com` is not a CIDR range, write it like `10.0.0.0/8`; a path belongs in `paths`",
        "odd_hosts.yaml:3: rules[0].allow[11]: `http:a.example.com` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "odd_hosts.yaml:3: rules[0].allow[12]: `a.example.com?x` is not a host: a host holds no query, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[13]: `a b.example.com` holds a space, write one target an entry",
        "odd_hosts.yaml:3: rules[0].allow[14]: `a.example.com,b.example.com` holds a comma, in YAML write `[a, b]`, in a list file one a line",
        "odd_hosts.yaml:3: rules[0].allow[15]: ` a.example.com` holds a space, write one target an entry",
        "odd_hosts.yaml:3: rules[0].allow[16]: the target is empty, write a host, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[17]: `.` is not a host pattern: the host is empty, write it like `*.example.com`",
        "odd_hosts.yaml:3: rules[0].allow[18]: `*.` is not a host pattern: the host is empty, write it like `*.example.com`",
        "odd_hosts.yaml:3: rules[0].allow[19]: `..` is not a host pattern: a label of the host is empty, write it like `*.example.com`",
        "odd_hosts.yaml:3: rules[0].allow[20]: `127.1` is not a host: a host whose last label is a number must be an address of four decimal numbers, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[21]: `0x7f.1` is not a host: a host whose last label is a number must be an address of four decimal numbers, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[22]: `1.2.3` is not a host: a host whose last label is a number must be an address of four decimal numbers, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[23]: `010.0.0.1` is not a host: a host whose last label is a number must be an address of four decimal numbers, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[24]: `1.2.3.4.` is not a host: an address has no trailing dot, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[25]: `256.1.1.1` is not a host: a host whose last label is a number must be an address of four decimal numbers, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[26]: `a.example.com;` is not a host: a label holds letters, digits, hyphens and underscores, with no hyphen at its ends, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[27]: `~^a` is not a host: a label holds letters, digits, hyphens and underscores, with no hyphen at its ends, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[28]: `/^a/` is not a CIDR range, write it like `10.0.0.0/8`; a path belongs in `paths`",
        "odd_hosts.yaml:3: rules[0].allow[29]: `+.example.com` is not a host: a label holds letters, digits, hyphens and underscores, with no hyphen at its ends, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[30]: `|example.com` is not a host: a label holds letters, digits, hyphens and underscores, with no hyphen at its ends, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[31]: `@@||x` is not a host: a host holds no user information, write a plain host name, an address or a CIDR range",
        "odd_hosts.yaml:3: rules[0].allow[34]: `*` is not a target, write `**` for any name, or better the hosts that are needed",
        "odd_hosts.yaml:3: rules[0].allow[36]: `[*.example.com]:443` is not an address in brackets, write it like `[2001:db8::1]:443`",
    ),
    "odd_keys": (
        'odd_keys.yaml:4: rules[0]: a key should be text, not a list or mapping, quote text that begins with `{` or `[`, as in `"${name}"`',
        'odd_keys.yaml:5: rules[0]: to YAML, `*foo` without quotes is an alias, not text, quote it: `"*foo"`',
    ),
    "only_comments": ("only_comments.yaml:1: the file is empty, write `version: 1`, which alone denies everything",),
    "only_null": (
        "only_null.yaml:1: the top of the file should be a mapping of keys, not nothing, start with `version: 1`",
    ),
    "only_text": (
        "only_text.yaml:1: the top of the file should be a mapping of keys, not text, start with `version: 1`",
    ),
    "other_syntax": (
        "other_syntax.yaml:2: this stands after the end of the YAML document, write the whole file as `key: value`",
    ),
    "percent_sign": ('percent_sign.yaml:4: a value cannot begin with `%`, quote the value: `"..."`',),
    "port_after_space": (
        "port_after_space.yaml:3: a `: ` stands where no key can be, quote the value if it holds `: `, else check the indentation",
    ),
    "port_twice": ("port_twice.yaml:3: rules[0].allow[1]: the port stands here and in `ports`, keep one of them",),
    "quote_not_closed": (
        "quote_not_closed.yaml:3: a quote is opened and not closed, close it with the same quote, `\"` or `'`",
    ),
    "rule_indent_differs": (
        "rule_indent_differs.yaml:4: this line's indentation fits nothing above it, give the keys of one mapping the same indentation, and quote values with special characters",
    ),
    "rule_key_at_top": (
        "rule_key_at_top.yaml:4: methods: unknown key, it belongs to a rule: indent it under the `- ` of one",
    ),
    "rule_key_typos": (
        "rule_key_typos.yaml:3: rules[0].alow: unknown key, did you mean `allow`?",
        "rule_key_typos.yaml:5: rules[1].method: unknown key, did you mean `methods`?",
        "rule_key_typos.yaml:7: rules[2].path: unknown key, did you mean `paths`?",
        "rule_key_typos.yaml:9: rules[3].port: unknown key, did you mean `ports`?",
    ),
    "rule_not_mapping": (
        "rule_not_mapping.yaml:3: rules[0]: should be a mapping of keys, not text",
        "rule_not_mapping.yaml:4: rules[1]: should be a mapping of keys, not a number",
        "rule_not_mapping.yaml:5: rules[2]: should be a mapping of keys, not nothing",
    ),
    "rule_without_space": (
        "rule_without_space.yaml:3: rules[0]: should be a mapping of keys, not text, write a space after the colon: `key: value`",
    ),
    "rules_mapping": ("rules_mapping.yaml:2: rules: should be a list, not a mapping, begin each rule with `- `",),
    "rules_text": ("rules_text.yaml:2: rules: should be a list, not text, begin each rule with `- `",),
    "second_dash_without_space": (
        "second_dash_without_space.yaml:4: this line's indentation fits nothing above it, give the keys of one mapping the same indentation, and quote values with special characters",
    ),
    "sandbox_words": (
        "sandbox_words.yaml:3: rules[0].allow: `${sandbox.nmae}.corp.example` holds a template that is none, write `${sandbox.name}` or `${sandbox.label.KEY}`",
        "sandbox_words.yaml:4: rules[1].allow[0]: `${sandbox.name}.com`: what follows the template is a name that anyone can register under, write more of the host after it, as in `${sandbox.name}.corp.example`",
        "sandbox_words.yaml:4: rules[1].allow[1]: `*.${...}` covers names that anyone can register, write more of the host after it, as in `${sandbox.name}.corp.example`",
        "sandbox_words.yaml:4: rules[1].allow[2]: `${sandbox.label.team}.co.uk`: what follows the template is a name that anyone can register under, write more of the host after it, as in `${sandbox.name}.corp.example`",
        "sandbox_words.yaml:4: rules[1].allow[3]: `10.0.0.${sandbox.name}`: what follows the template is a name that anyone can register under, write more of the host after it, as in `${sandbox.name}.corp.example`",
        "sandbox_words.yaml:4: rules[1].allow[4]: `a.example:${...}` has no valid port, a port is a number from 1 to 65535; `ports` takes ranges",
        "sandbox_words.yaml:6: rules[2].paths[0]: `/${sandbox.label.Team}/**` holds a template that is none, write `${sandbox.name}` or `${sandbox.label.KEY}`",
        "sandbox_words.yaml:6: rules[2].paths[1]: `/${secret}` holds a template that is none, write `${sandbox.name}` or `${sandbox.label.KEY}`",
        "sandbox_words.yaml:7: rules[2].sandboxes[0]: `ci_7` is neither a sandbox's name nor `label=value`, write `ci-7` or `team=data`, in lower-case letters, digits and `-`",
        "sandbox_words.yaml:7: rules[2].sandboxes[1]: `team=a.b` is neither a sandbox's name nor `label=value`, write `ci-7` or `team=data`, in lower-case letters, digits and `-`",
        "sandbox_words.yaml:7: rules[2].sandboxes[2]: `=x` is neither a sandbox's name nor `label=value`, write `ci-7` or `team=data`, in lower-case letters, digits and `-`",
        "sandbox_words.yaml:7: rules[2].sandboxes[3]: `team*` is neither a sandbox's name nor `label=value`, write `ci-7` or `team=data`, in lower-case letters, digits and `-`",
        "sandbox_words.yaml:9: rules[3].sandboxes: this list is empty, so nothing could match, name at least one, or remove the key",
    ),
    "secret_bad_fetched_source": (
        "secret_bad_fetched_source.yaml:3: secrets.literal.oauth2.client_secret: a value never stands in a file, write `{env: NAME}`, `{file: PATH}` or `{store: NAME}`, never the value itself",
        "secret_bad_fetched_source.yaml:4: secrets.two_leaves.vault.auth.token: this does not say in one way where the value is, write `{env: NAME}`, `{file: PATH}` or `{store: NAME}`, never the value itself",
        "secret_bad_fetched_source.yaml:5: secrets.pasted.aws.secret_access_key: this is not the name of an environment variable, write its name, as in `GITHUB_TOKEN`, never its value",
        "secret_bad_fetched_source.yaml:6: secrets.two_sources: a secret has one source, and this one has `command` and `keyring`, write `env: GITHUB_TOKEN` or `file: /run/secrets/github`",
        "secret_bad_fetched_source.yaml:7: secrets.no_hosts: `hosts` is missing, write `hosts: [api.example.com]`, the hosts that it may be sent to",
        "secret_bad_fetched_source.yaml:8: secrets.shell.command: should be a list, not text, write the program and its arguments as a list: `[op, read, op://vault/github/token]`",
        "secret_bad_fetched_source.yaml:9: secrets.no_program.command: no program is named, write the program and its arguments as a list: `[op, read, op://vault/github/token]`",
        "secret_bad_fetched_source.yaml:10: secrets.times.timeout: `90s` is outside the times from 1 to 60 seconds, write `30s`, `5min` or `1h`",
        "secret_bad_fetched_source.yaml:10: secrets.times.keep: `5` is not a time with its unit, write `30s`, `5min` or `1h`",
        "secret_bad_fetched_source.yaml:11: secrets.not_a_command.keep: `keep` is for a `command`, remove it",
        "secret_bad_fetched_source.yaml:12: secrets.plain_http.vault.address: a credential goes over https, and over http to a loopback or link-local address alone, write `https://vault.corp.example`",
        "secret_bad_fetched_source.yaml:13: secrets.in_the_url.oauth2.token_url: a URL here holds no user and no password, write `https://vault.corp.example`",
        "secret_bad_fetched_source.yaml:14: secrets.two_ways_in.vault.auth: there is one way to sign in, and this has `kubernetes` and `token`, write `token`, `approle` or `kubernetes`",
        "secret_bad_fetched_source.yaml:15: secrets.half_a_vault.azure: this is neither a token nor a secret, write `resource`, or `vault` and `secret`",
        "secret_bad_fetched_source.yaml:16: secrets.nothing_to_sign_in_with.oauth2: there is nothing to sign in with, write `client_secret`, or `refresh_token`, or both",
        "secret_bad_fetched_source.yaml:17: secrets.in_the_form.oauth2.extra: `password` is no field to add, remove it; what signs in is `client_secret` or `refresh_token`, and says where its value is",
        "secret_bad_fetched_source.yaml:18: secrets.kernel.google: `/proc/self/environ` is not a file that can hold a secret, write the path of a file of mode 0600",
        "secret_bad_fetched_source.yaml:19: secrets.kernel_inside.github_app: `/proc/self/environ` is not a file that can hold a secret, write the path of a file of mode 0600",
        "secret_bad_fetched_source.yaml:20: secrets.kernel_program.command: `/sys/program` is not a file that can hold a secret, write the path of a file of mode 0600",
        "secret_bad_fetched_source.yaml:21: secrets.misspelt.github_app: `installation_id` is missing, write `installation_id: ...`",
        "secret_bad_fetched_source.yaml:21: secrets.misspelt.github_app.instalation_id: unknown key, did you mean `installation_id`?",
        "secret_bad_fetched_source.yaml:22: secrets.too_much.github_app.permissions.contents: should be 'read', 'write' or 'admin', not `all`",
        "secret_bad_fetched_source.yaml:23: secrets.nothing.keyring: nothing stands after `user`, give it a value, or remove it",
        "secret_bad_fetched_source.yaml:24: secrets.bad_store.store: this is not the name of a stored secret, write its name, as `egress secret list` shows it",
    ),
    "secret_bad_name": (
        'secret_bad_name.yaml:3: secrets["a b"]: `a b` is not a name for a secret, write letters, digits, `_` and `-`, as in `github`',
    ),
    "secret_bad_source": (
        "secret_bad_source.yaml:3: secrets.one.env: this is not the name of an environment variable, write its name, as in `GITHUB_TOKEN`, never its value",
        "secret_bad_source.yaml:4: secrets.two.file: `/proc/1/environ` is not a file that can hold a secret, write the path of a file of mode 0600",
        "secret_bad_source.yaml:5: secrets.three.file: `../../../../../../../../../../../../proc/self/environ` is not a file that can hold a secret, write the path of a file of mode 0600",
        'secret_bad_source.yaml:6: secrets.four.env: should be text, not a number, put it in quotes: `"7"`',
    ),
    "secret_bound_to_any": (
        "secret_bound_to_any.yaml:3: secrets.github.hosts[0]: a secret is bound to hosts that are named, not to any, name the hosts it may be sent to",
    ),
    "secret_without_hosts": (
        "secret_without_hosts.yaml:3: secrets.github: `hosts` is missing, write `hosts: [api.example.com]`, the hosts that it may be sent to",
        "secret_without_hosts.yaml:4: secrets.other.hosts: this list is empty, so nothing could match, name at least one, or remove the key",
    ),
    "secret_without_source": (
        "secret_without_source.yaml:3: secrets.github: a secret has one source, and this one has none, write `env: GITHUB_TOKEN` or `file: /run/secrets/github`",
        "secret_without_source.yaml:4: secrets.both: a secret has one source, and this one has `env` and `file`, write `env: GITHUB_TOKEN` or `file: /run/secrets/github`",
    ),
    "secrets_list": (
        "secrets_list.yaml:2: secrets: should be a mapping of names, not a list, write `github: {env: GITHUB_TOKEN, hosts: [...]}`",
    ),
    "star_alone_unquoted": (
        'star_alone_unquoted.yaml:3: to YAML, `*` and `&` without quotes begin an alias or anchor, quote the value: `"*.example.com"`',
    ),
    "tab_after_key": ("tab_after_key.yaml:3: a tab indents this line, indent with spaces",),
    "tab_before_dash": ("tab_before_dash.yaml:4: a tab indents this line, indent with spaces",),
    "tab_indent": ("tab_indent.yaml:3: a tab indents this line, indent with spaces",),
    "tag": (
        "tag.yaml:3: rules[0].allow: a YAML tag (`tag:yaml.org,2002:str`) is not allowed, remove it, or quote the value if it is text that begins with `!`",
        "tag.yaml:4: rules[0].name: a YAML tag (`tag:yaml.org,2002:python/object:os.system`) is not allowed, remove it, or quote the value if it is text that begins with `!`",
    ),
    "tag_unquoted": (
        "tag_unquoted.yaml:3: rules[0].allow: a YAML tag (`!a.example.com`) is not allowed, remove it, or quote the value if it is text that begins with `!`",
    ),
    "target_types": (
        'target_types.yaml:3: rules[0].allow: should be text, not a number, put it in quotes: `"1.5"`',
        'target_types.yaml:4: rules[1].deny[0]: should be text, not true/false, put it in quotes: `"true"`',
        'target_types.yaml:4: rules[1].deny[1]: should be text, not a number, put it in quotes: `"7"`',
        "target_types.yaml:4: rules[1].deny[2]: should be text, not nothing, write text",
        "target_types.yaml:4: rules[1].deny[3]: should be text, not a mapping, write text",
        "target_types.yaml:5: rules[2].ask: `file` is missing, write `{file: lists/hosts.txt}`",
        "target_types.yaml:5: rules[2].ask.path: unknown key, write `file`",
        "target_types.yaml:6: rules[3].deny: this list is empty, so nothing could match, name at least one, or remove the key",
    ),
    "targets_in_block_text": (
        "targets_in_block_text.yaml:3: rules[0].allow: `a.example.com\\nb.example.com\\n` holds a space, write one target an entry",
    ),
    "targets_with_comma": (
        "targets_with_comma.yaml:3: rules[0].allow: `a.example.com, b.example.com` holds a comma, in YAML write `[a, b]`, in a list file one a line",
    ),
    "tcp_with_http_keys": (
        "tcp_with_http_keys.yaml:5: rules[0].methods: raw TCP is carried unread, so `methods` can never apply, remove it, or name `https` in `protocol`",
        "tcp_with_http_keys.yaml:6: rules[0].paths: raw TCP is carried unread, so `paths` can never apply, remove it, or name `https` in `protocol`",
        "tcp_with_http_keys.yaml:7: rules[0].tls: raw TCP is carried unread, so `tls` can never apply, remove it, or name `https` in `protocol`",
    ),
    "tcp_without_ports": (
        "tcp_without_ports.yaml:4: rules[0].protocol: a `tcp` allow must name its ports, add `ports: [5432]`",
        "tcp_without_ports.yaml:6: rules[1].protocol: a `tcp` allow must name its ports, add `ports: [5432]`",
    ),
    "template_unquoted": (
        'template_unquoted.yaml:4: to YAML, `${key}` without quotes holds a mapping, quote it: `"${key}"`',
    ),
    "three_verbs": (
        "three_verbs.yaml:3: rules[0]: a rule has one verb, and this one has `allow` and `deny` and `ask`, write a rule for each",
    ),
    "tls_on_deny": (
        "tls_on_deny.yaml:4: rules[0].tls: `tls` says how an allowed connection is carried, and this rule says `deny`, remove it",
    ),
    "tls_unknown": ("tls_unknown.yaml:2: tls: unknown word `tunel`, did you mean `tunnel`?",),
    "too_deep": ("too_deep.yaml:2: rules[0][0]: nested deeper than 16 levels, flatten it",),
    "top_indented": (
        "top_indented.yaml:2: a `: ` stands where no key can be, quote the value if it holds `: `, else check the indentation",
    ),
    "tunnel_by_default_with_conditions": (
        "tunnel_by_default_with_conditions.yaml:5: rules[0].paths: the file's `tls: tunnel` carries TLS unread, so `paths` can never apply to it, add `tls: inspect` to the rule",
    ),
    "tunnel_with_conditions": (
        "tunnel_with_conditions.yaml:6: rules[0].tls: a tunnel is carried unread, so `methods`, `inject` can never apply, write `tls: inspect`, or remove them",
    ),
    "two_documents": (
        "two_documents.yaml:2: a second document starts here, keep one document a file: remove the `---`",
    ),
    "two_verbs": (
        "two_verbs.yaml:3: rules[0]: a rule has one verb, and this one has `allow` and `deny`, write a rule for each",
    ),
    "typographic_quotes": (
        'typographic_quotes.yaml:3: rules[0].allow: `“a.example.com”` holds its quotes, in YAML quote with a plain `"`, in a list file not at all',
    ),
    "unknown_rule_key": (
        "unknown_rule_key.yaml:5: rules[1].port: unknown key, did you mean `ports`?",
        "unknown_rule_key.yaml:7: rules[2].colour: unknown key, write `addresses`, `allow`, `annotate`, `ask`, `deny`, `graphql`, `headers`, `http2`, `ignore_case`, `inject`, `limits`, `mcp`, `methods`, `name`, `paths`, `ports`, `protocol`, `query`, `remove`, `rewrite`, `sandboxes`, `scrub`, `sign`, `strip_own`, `swap`, `tls` or `until`",
    ),
    "unknown_top_key": ("unknown_top_key.yaml:2: rulez: unknown key, did you mean `rules`?",),
    "utf16": ("utf16.yaml:1: the file is UTF-16, save it as UTF-8 without a byte order mark",),
    "verb_nothing": (
        "verb_nothing.yaml:3: rules[0].allow: nothing stands after this key, give it a value, or remove it",
    ),
    "version_fraction": ("version_fraction.yaml:1: version: should be the number 1, not `1.0`, write `version: 1`",),
    "version_missing": ("version_missing.yaml:1: `version` is missing, write `version: 1`",),
    "version_text": ("version_text.yaml:1: version: should be the number 1, not text, write `version: 1`",),
    "version_two": (
        "version_two.yaml:1: version: this version of egress reads policies of version 1, not 2, write `version: 1`",
    ),
    "version_without_space": (
        "version_without_space.yaml:2: a key's `:` stands without a space after it, here or on the line above, write `key: value`",
    ),
    "version_word": ("version_word.yaml:1: version: should be the number 1, not text, write `version: 1`",),
    "wildcard_in_list_unquoted": (
        'wildcard_in_list_unquoted.yaml:3: rules[0].allow[1]: to YAML, `*.github.com` without quotes is an alias, not text, quote it: `"*.github.com"`',
        'wildcard_in_list_unquoted.yaml:3: rules[0].allow[2]: to YAML, `*.example.org:8443` without quotes is an alias, not text, quote it: `"*.example.org:8443"`',
    ),
    "wildcard_unquoted": (
        'wildcard_unquoted.yaml:3: rules[0].allow: to YAML, `*.github.com` without quotes is an alias, not text, quote it: `"*.github.com"`',
    ),
    "word_without_space": (
        "word_without_space.yaml:3: a key's `:` stands without a space after it, here or on the line above, write `key: value`",
    ),
    "words_upper_case": (
        "words_upper_case.yaml:2: default: unknown word `Deny`, did you mean `deny`?",
        "words_upper_case.yaml:3: mode: unknown word `Enforce`, did you mean `enforce`?",
    ),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_broken_file_says_file_line_place_and_what_to_write(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem of the file is told, with its line, and nothing else."""
    monkeypatch.chdir(BROKEN)
    with pytest.raises(ConfigError) as caught:
        load_policy([PolicySource(Scope.SANDBOX, Path(f"{name}.yaml"))])
    assert tuple(str(problem) for problem in caught.value.problems) == EXPECTED[name]


def test_every_broken_file_has_its_row() -> None:
    """No file of the folder goes untested, and no row lacks its file."""
    assert {path.stem for path in BROKEN.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_messages_keep_the_house_form(name: str) -> None:
    """One line each, no final period, no type names of the libraries, nothing that a terminal would act on."""
    for line in EXPECTED[name]:
        assert not line.endswith(".")
        assert line.isprintable()
        assert not any(word in line for word in ("pydantic", "ruamel", "Input should", "NoneType", "dict", "Exception"))
