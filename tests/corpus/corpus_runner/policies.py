"""The corpus' policy sentences as policy files."""

from __future__ import annotations

from corpus_runner.cases import CANARY

HOST = """\
version: 1
default: deny
rules:
  - allow: allowed.test
    ports: [80, 443]
"""

HOST_INSPECTED = HOST + "    tls: inspect\n"

INJECT = """\
version: 1
default: deny
secrets:
  canary: {env: EGRESS_TEST_CANARY, hosts: [allowed.test]}
rules:
  - allow: allowed.test:443
    inject: {Authorization: "Bearer ${canary}"}
"""

INJECT_WEBSOCKET = INJECT + "    protocol: [https, wss]\n"

PUBLIC_PATHS = """\
version: 1
default: deny
rules:
  - allow: allowed.test:443
    protocol: https
    methods: [GET, HEAD]
    paths: ["/public/**"]
"""

# No policy file may say `*.test` or `**.io`: names under a public suffix. `**` is broader than all of them.
ANY_NAME = """\
version: 1
default: deny
rules:
  - allow: "**"
"""

BY_SENTENCE = {
    "default deny; allow host allowed.test ports 80,443": HOST,
    "default deny; DNS answers only for allowed.test (A, AAAA)": HOST,
    "default deny; allow host *.test; private/special ranges denied by default": ANY_NAME,
    "default deny; allow host allowed.test:443; inject Authorization: Bearer CANARY for allowed.test over verified TLS only": INJECT,  # noqa: E501 -- the corpus' words
    "default deny; allow host allowed.test:443; inject Authorization: Bearer CANARY for allowed.test over verified TLS only; protocol: [wss] for allowed.test": INJECT_WEBSOCKET,  # noqa: E501 -- the corpus' words
    "default deny; allow GET,HEAD https://allowed.test/public/**": PUBLIC_PATHS,
    "default deny; allow **.internal, **.io, **.me, **.svc (over-broad user rule)": ANY_NAME,
}

ENVIRONMENT = {"EGRESS_TEST_CANARY": CANARY}
