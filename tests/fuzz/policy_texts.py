"""What the fuzzers of policies begin with, and what they put in."""

from __future__ import annotations

TARGETS = (
    "api.example.com", "*.example.com", ".example.com", "**", "10.1.2.3", "10.0.0.0/8", "2001:db8::/32",
    "[2001:db8::1]:443", "example.com:8443", "*.example.com:443", "b\xfccher.example", "xn--bcher-kva.example",
    "::ffff:10.0.0.0/104", "A.EXAMPLE.", "0.0.0.0/0", "::/0", "*.co.uk", "localhost", "1.2.3.4/32", "fe80::1",
    "10.0.0.0/31", "2001:db8::/127",
)  # fmt: skip
PIECES = tuple(
    piece.encode()
    for piece in (
        ".", "*", "**", ":", "/", "[", "]", "%", "@", "-", "_", "xn--", "::", "::ffff:", ":443", ":0", "/8", "/0",
        "/128", "0x", "0", "1", "10", "255", "a", "A", "\xfc", "\u212a", "\u3002", "\uff0e", "\xad", "\u200d", "\xdf",
        "\u0130", "com", "co.uk", " ", "\t", "\n", "\r", "\x00", "#", ",", '"', "'", "\xa0", "\u2028", "\ufeff",
        "example", "://", "?", "\\", "%2f", "%41", "//",
    )
)  # fmt: skip
HOSTS = (
    "example.com", "api.example.com", "a.b.example.com", "notexample.com", "example.com.evil.test", "com", "co.uk",
    "a.co.uk", "10.1.2.3", "11.0.0.1", "1.2.3.4", "2001:db8::1", "2001:db9::1", "::1", "xn--bcher-kva.example",
    "localhost", "0.0.0.0",
)  # fmt: skip


POLICIES = tuple(
    text.encode()
    for text in (
        """version: 1
rules:
- allow: [api.example.com, '*.example.com', .example.org]
  methods: read-only
  paths: [/a/**]
- deny: 10.0.0.0/8
""",
        """version: 1
default: deny
rules:
- {allow: a.example.com, ports: [443, 8000-8010], protocol: [https], tls: tunnel}
""",
        """version: 1
rules:
- &b {allow: a.example.com, methods: [GET]}
- {<<: *b, allow: b.example.com}
- {<<: [*b], deny: '**'}
""",
        """version: 1
rules:
- ask: '**'
- allow: 2001:db8::/32
  until: 2030-01-01T00:00:00Z
  annotate: {a: b}
  query: [a=b]
""",
        """{"version": 1, "rules": [{"allow": "a.example.com:8443", "name": "x\\ty"}]}""",
        """version: 1
mode: report
secrets: {t: {env: T, hosts: [a.example.com]}}
rules:
- allow: a.example.com
  inject: {X-A: 'b ${t}'}
""",
    )
)
WORDS = tuple(
    piece.encode()
    for piece in (
        "\n", "- ", ": ", ":", "  ", "\t", "&a ", "*a", "<<: ", "!!str ", "? ", "| ", "> ", "---\n", "...\n",
        "%YAML 1.1\n", "# ", "'", '"', "[", "]", "{", "}", ",", "~", "no", "yes", "012", "3.10", "1:30", "0x1f",
        ".inf", "1e3", "\\x41", "\\u2028", "allow: ", "deny: ", "ask: ", "- allow: evil.test\n", "rules:\n",
        "methods: [GET]\n", "ports: [1-65535]\n", "\r", "\x00", "addresses: [10.0.0.0/8]\n", "default: allow\n",
        "ignore_case: true\n", "Allow: ", "\u2028", "\x85", "\u202e",
    )
)  # fmt: skip
