"""Shipped policies, names, paths and scopes; the schema."""

# ruff: noqa: E501  a row of a table is one line

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from egress.config import find_policy, load_policy, policy_schema, policy_schema_text, shipped_policies
from egress.config.later import LATER_KEYS
from egress.errors import ConfigError
from egress.policy import Reason, Scope
from egress.review import Question, explain

ROOT = Path(__file__).parents[2]


def test_all_policies_of_the_repository_are_found_by_name() -> None:
    """What stands in `policies/` is what `--policy NAME` finds."""
    assert {name: path.name for name, path in shipped_policies().items()} == {
        path.stem: path.name for path in (ROOT / "policies").glob("*.yaml")
    }


@pytest.mark.parametrize("name", ["starter", "deny-all", "coding-agent", "locked", "sre-agent"])
def test_shipped_policy_loads_without_a_warning(name: str) -> None:
    """What we give people to start from is beyond doubt."""
    assert load_policy([find_policy(name)]).warnings == ()


ANSWERS = [
    ("starter", "GET", "https://api.github.com/zen", Reason.RULE_ALLOW),
    ("starter", "GET", "https://example.com/", Reason.RULE_ALLOW),
    ("starter", "GET", "http://www.example.org/", Reason.RULE_ALLOW),
    ("starter", "POST", "https://api.github.com/user/repos", Reason.METHOD_NOT_ALLOWED),
    ("starter", "GET", "https://evil.test/", Reason.HOST_NOT_ALLOWED),
    ("starter", "GET", "http://169.254.169.254/latest/meta-data/", Reason.RULE_DENY),
    ("starter", "GET", "http://metadata.google.internal/", Reason.RULE_DENY),
    ("deny-all", "GET", "https://example.com/", Reason.HOST_NOT_ALLOWED),
    ("coding-agent", "POST", "https://api.anthropic.com/v1/messages", Reason.RULE_ALLOW),
    ("coding-agent", "POST", "https://github.com/acme/app/git-upload-pack", Reason.RULE_ALLOW),
    ("coding-agent", "POST", "https://api.github.com/repos/acme/app/pulls", Reason.RULE_ALLOW),
    ("coding-agent", "DELETE", "https://api.github.com/repos/acme/app", Reason.RULE_DENY),
    ("coding-agent", "POST", "https://api.github.com/graphql", Reason.RULE_ALLOW),
    ("coding-agent", "GET", "https://api.github.com/user", Reason.RULE_ALLOW),
    ("coding-agent", "PUT", "https://api.github.com/repos/acme/app/collaborators/eve", Reason.PATH_NOT_ALLOWED),
    ("coding-agent", "POST", "https://raw.githubusercontent.com/acme/app/main/a", Reason.METHOD_NOT_ALLOWED),
    ("coding-agent", "POST", "https://api.anthropic.com/v1/files", Reason.PATH_NOT_ALLOWED),
    ("locked", "POST", "https://api.anthropic.com/v1/messages", Reason.RULE_ALLOW),
    ("locked", "GET", "https://github.com/acme/app", Reason.HOST_NOT_ALLOWED),
    ("locked", "GET", "http://169.254.169.254/", Reason.RULE_DENY),
    ("open", "POST", "https://example.com/", Reason.DEFAULT_ALLOW),
    ("open", "GET", "http://169.254.169.254/", Reason.RULE_DENY),
    ("sre-agent", "GET", "https://kubernetes.corp.example:6443/api/v1/pods", Reason.RULE_ALLOW),
    ("sre-agent", "GET", "https://kubernetes.corp.example:6443/api/v1/namespaces/a/secrets/b", Reason.RULE_DENY),
    (
        "sre-agent",
        "DELETE",
        "https://kubernetes.corp.example:6443/api/v1/namespaces/a/pods/b",
        Reason.APPROVAL_REQUIRED,
    ),
    ("sre-agent", "POST", "https://grafana.corp.example/api/ds/query", Reason.RULE_ALLOW),
    ("sre-agent", "POST", "https://grafana.corp.example/api/users", Reason.PATH_NOT_ALLOWED),
    ("sre-agent", "POST", "https://incidents.corp.example/api/v1/incidents", Reason.RULE_ALLOW),
    ("sre-agent", "GET", "https://github.com/acme/runbooks/info/refs?service=git-upload-pack", Reason.RULE_ALLOW),
    ("sre-agent", "GET", "https://github.com/acme/app/info/refs?service=git-upload-pack", Reason.PATH_NOT_ALLOWED),
    ("coding-agent", "GET", "http://169.254.169.254/", Reason.RULE_DENY),
    ("coding-agent", "GET", "https://example.com/", Reason.HOST_NOT_ALLOWED),
]


@pytest.mark.parametrize(("name", "method", "url", "reason"), ANSWERS)
def test_shipped_policy_answers_as_its_comments_say(name: str, method: str, url: str, reason: Reason) -> None:
    """Allowed is allowed, denied is denied, for the reason that a reader expects."""
    assert explain(Question(url, method), load_policy([find_policy(name)])).reason is reason


@pytest.mark.parametrize(
    ("text", "scope", "path"),
    [
        ("./mine.yaml", Scope.SANDBOX, Path("mine.yaml")),
        ("dir/mine", Scope.SANDBOX, Path("dir/mine")),
        ("org=mine.yaml", Scope.ORG, Path("mine.yaml")),
        ("session=/a=b.yaml", Scope.SESSION, Path("/a=b.yaml")),
        ("./a=b.yaml", Scope.SANDBOX, Path("a=b.yaml")),
        ("starter", Scope.SANDBOX, ROOT / "policies" / "starter.yaml"),
        ("team=deny-all", Scope.TEAM, ROOT / "policies" / "deny-all.yaml"),
    ],
)
def test_source_is_a_name_a_path_or_either_with_a_scope(text: str, scope: Scope, path: Path) -> None:
    """`NAME`, `PATH`, `SCOPE=NAME`, `SCOPE=PATH`."""
    source = find_policy(text)
    assert (source.scope, source.path) == (scope, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("coding-agnet", "did you mean `coding-agent`?"),
        (
            "zzz",
            "write `balanced`, `ci-job`, `coding-agent`, `data-notebook`, `deny-all`, `locked`, `open`, `sre-agent` or `starter`",
        ),
        ("ogr=a.yaml", "did you mean `org`?"),
        ("", "write a path"),
        ("org=", "write a path"),
    ],
)
def test_unknown_name_lists_what_there_is(text: str, said: str) -> None:
    """The message has what to write."""
    with pytest.raises(ConfigError) as caught:
        find_policy(text)
    assert said in str(caught.value)
    assert "`starter`" in str(caught.value) or "org" in text or "ogr" in text


def test_file_of_the_folder_never_shadows_a_shipped_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that writes `starter` into the current folder changes nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").write_text("version: 1\ndefault: allow\n")
    (tmp_path / "mine").write_text("version: 1\n")
    assert find_policy("starter").path == ROOT / "policies" / "starter.yaml"
    with pytest.raises(ConfigError, match=r"write `\./mine`"):
        find_policy("mine")


# The schema


def test_committed_schema_is_the_models_schema() -> None:
    """Editors read the committed one. To renew it: egress policy schema > schema/policy.schema.json."""
    assert (ROOT / "schema" / "policy.schema.json").read_text() == policy_schema_text()


def accepts(schema: dict[str, object], node: object, value: object) -> bool:  # noqa: PLR0911  a case each
    """Whether a value has the shape: the part of JSON Schema that our schema uses, and no other word of it."""
    assert isinstance(node, dict)
    known = {
        "$ref",
        "anyOf",
        "const",
        "enum",
        "type",
        "items",
        "properties",
        "required",
        "additionalProperties",
        "propertyNames",
    }
    assert set(node) <= known | {"description", "title", "$defs", "$schema"}, node
    if "$ref" in node:
        definitions = schema["$defs"]
        assert isinstance(definitions, dict)
        return accepts(schema, definitions[node["$ref"].rpartition("/")[2]], value)
    if "anyOf" in node and not any(accepts(schema, option, value) for option in node["anyOf"]):
        return False
    if "type" not in node and set(node) & {"anyOf", "required"}:
        return set(node.get("required", ())) <= (set(value) if isinstance(value, dict) else set())
    if "const" in node and value != node["const"]:
        return False
    if "enum" in node and value not in node["enum"]:
        return False
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if not isinstance(value, kinds[node["type"]]):
        return False
    if isinstance(value, list):
        return all(accepts(schema, node["items"], item) for item in value)
    if isinstance(value, dict):
        properties = node.get("properties", {})
        others = node.get("additionalProperties", False)
        return set(node.get("required", ())) <= set(value) and all(
            accepts(schema, properties.get(key, others), item) if properties.get(key, others) is not False else False
            for key, item in value.items()
        )
    return True


GOOD = """
version: 1
default: ask
tls: auto
secrets:
  k: {env: K, hosts: api.example.com, methods: [POST], paths: [/x], placeholder: {env: K, like: sk}}
  f: {file: x, hosts: [a.example.com], placeholder: a-text-of-16-or-more}
rules:
  - {name: x, allow: api.example.com, ports: [443, 8000-8010], methods: [POST], paths: /x, protocol: [https, tcp], tls: tunnel}
  - {deny: {file: x.txt}, methods: read-only}
  - {ask: ["**"], addresses: 10.0.0.0/8, inject: {x: y}, remove: [a]}
  - allow: api.example.com
    paths: [/x]
    inject: {Authorization: {basic: {user: x, password: "${k}"}}}
    swap: {secret: k, headers: [x-api-key], in: [query, path, body], require: true}
    strip_own: true
"""


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_schema_accepts_shipped_policies(name: str) -> None:
    """An editor shows no error in what we ship."""
    value = YAML(typ="safe", pure=True).load(shipped_policies()[name].read_text())
    assert accepts(policy_schema(), policy_schema(), value)


def test_schema_accepts_every_key() -> None:
    """Each key in its forms."""
    assert accepts(policy_schema(), policy_schema(), YAML(typ="safe", pure=True).load(GOOD))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"version": 2},
        {"version": 1, "x": 1},
        {"version": 1, "default": "no"},
        {"version": 1, "default": None},
        {"version": 1, "rules": [{"alow": "a"}]},
        {"version": 1, "rules": [{"allow": {"fil": "a"}}]},
        {"version": 1, "rules": [{"allow": 7}]},
        {"version": 1, "secrets": {"k": {"env": "K"}}},
    ],
)
def test_schema_refuses_what_the_loader_refuses(value: object) -> None:
    """Unknown keys, wrong words, missing parts."""
    assert not accepts(policy_schema(), policy_schema(), value)


def test_keys_of_later_versions_are_not_in_the_schema() -> None:
    """A key is known or announced, never both."""
    text = json.dumps(policy_schema())
    for section in ("", "rules", "secrets"):
        assert not any(f'"{key}": {{' in text for key in LATER_KEYS[section])
