"""Settings of the sandbox runtime and of Claude Code, and network policies of Kubernetes and Cilium."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from egress.config import PolicySource, load_policy
from egress.policy import Scope
from egress.review import explain, make_question
from egress.review.convert import EXPORTS, IMPORTS, Effect
from egress.review.convert.source import read_source

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config import LoadedPolicy
    from egress.review.convert import Converted

RUNTIME = {
    "network": {
        "allowedDomains": ["github.com", "*.github.com", "api.example.com"],
        "deniedDomains": ["uploads.github.com"],
        "allowUnixSockets": ["/run/x.sock"],
        "allowLocalBinding": False,
    },
    "filesystem": {"denyRead": ["~/.ssh"], "allowWrite": ["."], "denyWrite": []},
}
CLAUDE = {
    "permissions": {
        "allow": ["WebFetch(domain:docs.example.com)", "Bash(ls:*)", "WebFetch", "WebFetch(domain:*)"],
        "ask": ["WebFetch(domain:ask.example.com)"],
        "deny": ["WebFetch(domain:bad.example.com)", "Read(./.env)"],
    },
    "sandbox": {"enabled": True, "network": {"allowedDomains": ["api.example.com", "bad.example.com", "*.com"]}},
}


def load(text: str, folder: Path) -> LoadedPolicy:
    """Load a policy file's text."""
    path = folder / "policy.yaml"
    path.write_text(text)
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def allows(loaded: LoadedPolicy, method: str, url: str) -> bool:
    """Whether a policy allows a request."""
    return explain(make_question(url, method=method, sandbox=None, headers=(), addresses=()), loaded).allowed


def export(form: str, rules: str, folder: Path, *, keep_wider: bool = False) -> tuple[Any, Converted]:
    """Export a policy with these rules; the result as values, and with its losses."""
    converted = EXPORTS[form](load(f"version: 1\n{rules}", folder), keep_wider=keep_wider)
    return read_source(converted.text, "out").data, converted


def effects(converted: Converted) -> set[tuple[int | None, str]]:
    """Give line and effect of each loss."""
    return {(loss.line, loss.effect.value) for loss in converted.losses}


def test_domains_of_the_sandbox_runtime_come_in_with_denials_first(tmp_path: Path) -> None:
    """What is denied wins there, so it stands first here; what says nothing of hosts is named."""
    converted = IMPORTS["sandbox-runtime"](json.dumps(RUNTIME, indent=2), "srt.json")
    loaded = load(converted.text, tmp_path)
    assert loaded.warnings == ()
    assert allows(loaded, "POST", "https://a.github.com/")
    assert allows(loaded, "GET", "https://github.com/")
    assert not allows(loaded, "GET", "https://uploads.github.com/")
    assert not allows(loaded, "GET", "https://other.example/")
    assert not allows(loaded, "GET", "https://github.com:8443/")
    assert (None, "narrower") in effects(converted)
    assert [loss.message for loss in converted.losses if loss.effect is Effect.NOTE] == [
        "`network.allowUnixSockets` says nothing about hosts and is passed over",
        "`network.allowLocalBinding` says nothing about hosts and is passed over",
    ]


def test_permissions_of_claude_code_come_in_as_reading(tmp_path: Path) -> None:
    """A permission to fetch reads; a denial is of the whole host; what no target can say is left out with its line."""
    text = json.dumps(CLAUDE, indent=2)
    wide = text.splitlines().index('        "*.com"') + 1
    converted = IMPORTS["claude-code"](text, "settings.json")
    loaded = load(converted.text, tmp_path)
    assert allows(loaded, "GET", "https://docs.example.com/")
    assert not allows(loaded, "POST", "https://docs.example.com/")
    assert allows(loaded, "POST", "https://api.example.com/")
    for host in ("bad.example.com", "ask.example.com", "other.com"):
        assert not allows(loaded, "GET", f"https://{host}/")
    assert {(6, "left out"), (7, "left out"), (wide, "left out")} <= effects(converted)


@pytest.mark.parametrize("form", ["sandbox-runtime", "claude-code"])
def test_a_round_trip_of_domains_keeps_them(form: str, tmp_path: Path) -> None:
    """From settings to a policy, and back to the same lists."""
    settings = RUNTIME if form == "sandbox-runtime" else {"sandbox": RUNTIME}
    loaded = load(IMPORTS[form](json.dumps(settings), "in.json").text, tmp_path)
    out = json.loads(EXPORTS[form](loaded).text)
    network = out["network"] if form == "sandbox-runtime" else out["sandbox"]["network"]
    assert network["allowedDomains"] == RUNTIME["network"]["allowedDomains"]
    assert network["deniedDomains"] == RUNTIME["network"]["deniedDomains"]


# Rules, the lists of allowed and denied domains, and a loss.
LISTS = (
    ("rules:\n  - allow: .example.com\n", ["example.com", "*.example.com"], [], (3, "note")),
    ("rules:\n  - allow: a.example.com\n", ["a.example.com"], [], (None, "open")),
    ("rules:\n  - allow: a.example.com\n    methods: [GET]\n", [], [], (3, "left out")),
    ("rules:\n  - allow: a.example.com\n    paths: [/v1]\n", [], [], (3, "left out")),
    ("rules:\n  - allow: a.example.com\n    remove: [Authorization]\n", [], [], (3, "left out")),
    ("rules:\n  - allow: a.example.com:8443\n", [], [], (3, "left out")),
    ("rules:\n  - allow: 10.0.0.0/8\n", [], [], (3, "left out")),
    ("rules:\n  - allow: internal\n", [], [], (3, "left out")),
    (
        "rules:\n  - deny: a.example.com\n    methods: [DELETE]\n  - allow: .example.com\n",
        ["example.com", "*.example.com"],
        ["a.example.com"],
        (3, "narrower"),
    ),
    (
        "rules:\n  - deny: a.example.com\n    ports: [22]\n  - allow: a.example.com\n",
        ["a.example.com"],
        [],
        (None, "open"),
    ),
    (
        "rules:\n  - allow: a.example.com\n  - deny: .example.com\n",
        ["a.example.com"],
        ["example.com", "*.example.com"],
        (4, "narrower"),
    ),
    (
        'rules:\n  - deny: "**"\n    methods: [DELETE]\n  - allow: a.example.com\n',
        [],
        [],
        (3, "narrower"),
    ),
    ('rules:\n  - allow: a.example.com\n  - deny: "**"\n', ["a.example.com"], [], (None, "open")),
    (
        "rules:\n  - allow: a.example.com\n    rewrite: {host: b.example.com}\n  - allow: b.example.com\n",
        ["b.example.com"],
        [],
        (3, "left out"),
    ),
    ("default: allow\nrules:\n  - deny: a.example.com\n", [], ["a.example.com"], (None, "narrower")),
    # a host that cannot be denied there, beside one that counts for two
    (
        "rules:\n  - deny: [localhost, .example.com]\n  - allow: [localhost, a.example.org]\n",
        [],
        ["example.com", "*.example.com"],
        (4, "left out"),
    ),
)


@pytest.mark.parametrize(("rules", "allowed", "denied", "loss"), LISTS)
def test_lists_of_domains_are_never_wider_than_the_rules(
    rules: str, allowed: list[str], denied: list[str], loss: tuple[int | None, str], tmp_path: Path
) -> None:
    """An `allow` with conditions is left out; a `deny` with conditions is of the whole host where it is needed."""
    data, converted = export("sandbox-runtime", rules, tmp_path)
    assert (data["network"]["allowedDomains"], data["network"]["deniedDomains"]) == (allowed, denied)
    assert loss in effects(converted)


def test_settings_of_claude_code_close_what_is_not_listed(tmp_path: Path) -> None:
    """Managed settings refuse without asking; permissions name no pattern that a version might not know."""
    rules = "rules:\n  - deny: '*.bad.example'\n  - allow: .example.com\n"
    data, converted = export("claude-code", rules, tmp_path)
    assert data["sandbox"]["network"]["allowManagedDomainsOnly"] is True
    assert data["permissions"]["allow"] == ["WebFetch(domain:example.com)"]
    assert data["permissions"]["deny"] == ["WebFetch(domain:*.bad.example)"]
    assert any("asked of the user" in loss.message for loss in converted.losses)


RANGES = (
    "rules:\n  - deny: [10.1.0.0/16, 169.254.169.254]\n  - allow: 10.0.0.0/8\n    ports: [443, 8000-8010]\n"
    "    protocol: tcp\n  - allow: 10.1.2.0/24\n  - allow: a.example.com\n"
)


def test_ranges_go_to_kubernetes_without_the_denied_ones(tmp_path: Path) -> None:
    """A range keeps its ports; a denied one inside it is its exception; one that is inside a denied one is left out."""
    data, converted = export("kubernetes", RANGES, tmp_path)
    assert (data["apiVersion"], data["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert data["spec"] == {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                "ports": [
                    {"protocol": "TCP", "port": 443},
                    {"protocol": "TCP", "port": 8000, "endPort": 8010},
                ],
            }
        ],
    }
    assert {(7, "left out"), (8, "left out"), (None, "open")} <= effects(converted)


@pytest.mark.parametrize(
    "rules",
    [
        "rules:\n  - allow: 10.0.0.0/8\n    methods: [GET]\n",
        'rules:\n  - deny: "**"\n  - allow: 10.0.0.0/8\n',
        "rules:\n  - deny: 0.0.0.0/0\n  - allow: 10.0.0.0/8\n",
        "rules:\n  - allow: 10.0.0.0/8\n  - deny: 10.0.0.0/8\n    ports: [22]\n",
    ],
)
def test_a_range_that_cannot_be_said_as_narrowly_is_left_out(rules: str, tmp_path: Path) -> None:
    """Of Kubernetes and of Cilium alike."""
    for form in ("kubernetes", "cilium"):
        data, converted = export(form, rules, tmp_path)
        assert "10.0.0.0/8" not in json.dumps(data["spec"]["egress"])
        assert "left out" in {effect for _, effect in effects(converted)}


def test_an_empty_network_policy_refuses_everything(tmp_path: Path) -> None:
    """A policy that names no peer selects its pods all the same, so nothing may leave them."""
    assert export("kubernetes", "", tmp_path)[0]["spec"]["egress"] == []
    assert export("cilium", "", tmp_path)[0]["spec"]["egress"] == [{}]


def test_names_go_to_cilium_with_their_levels_and_their_lookups(tmp_path: Path) -> None:
    """A star is one label there; only the allowed names may be looked up."""
    data, converted = export("cilium", "rules:\n  - allow: .example.com\n    protocol: https\n", tmp_path)
    names = [
        {"matchName": "example.com"},
        {"matchPattern": "*.example.com"},
        {"matchPattern": "*.*.example.com"},
        {"matchPattern": "*.*.*.example.com"},
    ]
    dns, web = data["spec"]["egress"]
    assert dns["toPorts"] == [{"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": names}}]
    assert web == {"toFQDNs": names, "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}
    assert (3, "narrower") in effects(converted)


def test_methods_and_paths_become_http_rules_of_cilium(tmp_path: Path) -> None:
    """Each path is a whole one; what is not named is not matched."""
    rules = "rules:\n  - allow: a.example.com\n    methods: [GET]\n    paths: [/v1/*/x.y, /v2/**]\n"
    data, converted = export("cilium", rules, tmp_path)
    http = data["spec"]["egress"][1]["toPorts"][0]["rules"]["http"]
    first, second = (re.compile(rule["path"]) for rule in http)
    assert {rule["method"] for rule in http} == {"GET"}
    assert first.fullmatch("/v1/a/x.y")
    assert first.fullmatch("/v1/a/x.y?q=1")
    assert not first.fullmatch("/v1/a/b/x.y")
    assert not first.fullmatch("/v1/a/xzy")
    assert second.fullmatch("/v2/a/b")
    assert not second.fullmatch("/v2")
    assert {(3, "narrower"), (3, "open")} <= effects(converted)


def test_cilium_leaves_out_what_a_denied_name_takes_a_part_of(tmp_path: Path) -> None:
    """Names cannot be denied there; denied ranges can."""
    rules = "rules:\n  - deny: [bad.example.com, 10.0.0.0/8]\n  - allow: .example.com\n  - allow: a.example.org\n"
    data, converted = export("cilium", rules, tmp_path)
    assert "example.com" not in json.dumps(data["spec"])
    assert data["spec"]["egressDeny"] == [{"toCIDR": ["10.0.0.0/8"]}]
    assert {(3, "narrower"), (4, "left out")} <= effects(converted)


@pytest.mark.parametrize("form", sorted(EXPORTS))
@pytest.mark.parametrize("name", ["starter", "coding-agent", "deny-all"])
def test_shipped_policies_can_be_exported(form: str, name: str) -> None:
    """To every format, and none of them becomes wider."""
    from egress.config import find_policy

    converted = EXPORTS[form](load_policy([find_policy(name)]))
    assert not converted.widens
    assert read_source(converted.text, "out").data
