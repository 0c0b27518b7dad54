"""Egress policies of Azure Container Apps sandboxes: in, out, and in again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from egress.config import EnvSource, PolicySource, load_policy
from egress.config.secret_sources import AzureIdentity, AzureSource
from egress.errors import ConfigError
from egress.policy import Host, Rewrite, Scheme, Scope
from egress.review import explain, make_question
from egress.review.convert import ConversionError, Effect
from egress.review.convert.azure_export import to_azure_policy
from egress.review.convert.azure_import import from_azure_policy
from egress.review.convert.azure_paths import AzurePath, from_azure, to_azure
from egress.review.convert.source import read_source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from egress.config import LoadedPolicy
    from egress.config.secret_sources import SecretSource
    from egress.review.convert import Converted

AZURE = """\
defaultAction: Deny
trafficInspection: Full
rules:
  - name: admin
    match: {host: api.example.com, path: /admin}
    action: {type: Deny}
  - name: writing
    match: {host: api.example.com, path: /v1/*, methods: [POST]}
    action: {type: Allow}
  - name: reading
    match: {host: api.example.com, methods: [get, head]}
    action: {type: Allow}
  - name: model
    match: {host: model.example, path: /v1/messages}
    action:
      type: Transform
      headers:
        - operation: Set
          name: Authorization
          valueRef: {secretRef: {secretId: model-key, secretKey: token, format: "Bearer {value}"}}
        - {operation: Remove, name: x-client}
        - {operation: Set, name: x-plan, value: a$b}
  - name: vault
    match: {host: "*.vault.example"}
    action:
      type: Transform
      headers:
        - name: Authorization
          operation: Set
          valueRef: {managedIdentityRef: {resource: "https://vault.example", format: "Bearer {value}"}}
  - match: {host: legacy.example}
    action: {type: Rewrite, scheme: https, host: new.example}
  - match: {host: "*.docs.example"}
    action: {type: Allow}
"""

# A request, and what the policy above says of it, as its document has it.
VERDICTS = (
    ("GET", "https://api.example.com/", True),
    ("GET", "https://api.example.com/v1/items", True),
    ("GET", "http://api.example.com/v1/items", True),
    ("POST", "https://api.example.com/v1/items", True),
    ("POST", "https://api.example.com/v1/a/b", True),
    ("POST", "https://api.example.com/v1", False),
    ("POST", "https://api.example.com/v2/items", False),
    ("DELETE", "https://api.example.com/v1/items", False),
    ("GET", "https://api.example.com/admin", False),
    ("GET", "https://api.example.com/admin/users", False),
    ("GET", "https://api.example.com/administrator", True),
    ("GET", "https://model.example/", False),
    ("POST", "https://model.example/v1/messages", True),
    ("POST", "https://model.example/v1/messages/count", True),
    ("GET", "https://a.vault.example/", True),
    ("GET", "https://a.b.vault.example/", True),
    ("GET", "https://vault.example/", False),
    ("GET", "https://legacy.example/", False),
    ("GET", "https://a.docs.example/x", True),
    ("GET", "https://docs.example/", False),
    ("GET", "https://other.example/", False),
)


def load(text: str, folder: Path) -> LoadedPolicy:
    """Load a policy file's text."""
    path = folder / "policy.yaml"
    path.write_text(text)
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def allows(loaded: LoadedPolicy, method: str, url: str) -> bool:
    """Whether a policy allows a request."""
    question = make_question(url, method=method, sandbox=None, headers=(), addresses=())
    return explain(question, loaded).allowed


def effects(converted: Converted) -> list[tuple[int | None, str]]:
    """Give line and effect of each loss."""
    return [(loss.line, loss.effect.value) for loss in converted.losses]


def exported(rules: str, folder: Path, *, keep_wider: bool = False) -> tuple[Mapping[str, object], Converted]:
    """Export a policy with these rules; the result as values, and with its losses."""
    found = to_azure_policy(load(f"version: 1\n{rules}", folder), keep_wider=keep_wider)
    return read_source(found.text, "out").data, found


def test_an_imported_policy_says_what_the_original_says(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """It loads without a warning, and its verdicts are those of the document."""
    loaded = load(from_azure_policy(AZURE, "azure.yaml").text, tmp_path)
    assert loaded.warnings == ()
    for method, url, allowed in VERDICTS:
        with subtests.test(f"{method} {url}"):
            assert allows(loaded, method, url) is allowed


def test_a_round_trip_keeps_every_verdict(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """From Azure to a policy, to Azure, and to a policy again."""
    first = load(from_azure_policy(AZURE, "azure.yaml").text, tmp_path)
    out = to_azure_policy(first)
    assert not out.widens
    again = load(from_azure_policy(out.text, "again.yaml").text, tmp_path)
    for method, url, allowed in VERDICTS:
        with subtests.test(f"{method} {url}"):
            assert allows(again, method, url) is allowed


def test_headers_and_secrets_come_in_with_their_format(tmp_path: Path) -> None:
    """A secret of the store becomes a variable, a token of an identity one of the machine's."""
    converted = from_azure_policy(AZURE, "azure.yaml")
    loaded = load(converted.text, tmp_path)
    assert 'Authorization: "Bearer ${model-key-token}"' in converted.text
    assert 'x-plan: "a$$b"' in converted.text
    assert "remove: [x-client]" in converted.text
    assert sorted(loaded.secrets) == ["identity-vault-example", "model-key-token"]
    assert "# a token of the managed identity for https://vault.example" in converted.text
    assert loaded.secrets["model-key-token"].source == EnvSource("MODEL_KEY_TOKEN")
    assert loaded.secrets["identity-vault-example"].source == AzureSource(AzureIdentity(), "https://vault.example")
    assert (20, "narrower") in effects(converted)


TRANSFORM = """\
defaultAction: Deny
rules:
  - match: {{host: a.example.com}}
    action: {{type: Transform, headers: [{{name: Authorization, valueRef: {reference}}}]}}
"""

# Which identity a reference means, and the source that it becomes.
IDENTITIES = (
    ("", AzureSource(AzureIdentity(), "https://v.example")),
    (", type: SystemAssigned", AzureSource(AzureIdentity(), "https://v.example")),
    (", clientId: 1-2", AzureSource(AzureIdentity(client_id="1-2"), "https://v.example")),
    (", type: UserAssigned, clientId: 1-2", AzureSource(AzureIdentity(client_id="1-2"), "https://v.example")),
    (", type: UserAssigned", EnvSource("IDENTITY_V_EXAMPLE")),
    (", identityResourceId: /subscriptions/1", EnvSource("IDENTITY_V_EXAMPLE")),
)


@pytest.mark.parametrize(("identity", "source"), IDENTITIES, ids=[identity for identity, _ in IDENTITIES])
def test_a_managed_identity_is_never_taken_for_another(identity: str, source: SecretSource, tmp_path: Path) -> None:
    """One that is named in words that no source here has is a variable, not the machine's own identity."""
    reference = f'{{managedIdentityRef: {{resource: "https://v.example"{identity}}}}}'
    loaded = load(from_azure_policy(TRANSFORM.format(reference=reference), "azure.yaml").text, tmp_path)
    assert [secret.source for secret in loaded.secrets.values()] == [source]


def test_what_an_import_quotes_stays_a_comment(tmp_path: Path) -> None:
    """A line end in a name of theirs would write secrets and rules of its own into the policy, and into the report."""
    reference = '{secretRef: {secretId: "s\\n  own: {env: PATH, hosts: [evil.example]}\\n  #"}}'
    converted = from_azure_policy(TRANSFORM.format(reference=reference), "azure.yaml")
    assert "own" not in load(converted.text, tmp_path).secrets
    assert [loss for loss in converted.losses if "evil" in str(loss)]
    assert not any("\n" in str(loss) for loss in converted.losses)


def test_headers_go_out_with_their_format_and_only_where_the_secret_is_bound(tmp_path: Path) -> None:
    """What Azure would send to a host that the secret is not bound to is removed instead."""
    rules = (
        "secrets:\n  key: {env: KEY, hosts: [a.example.com]}\n"
        "rules:\n  - allow: [a.example.com, b.example.com]\n    inject: {Authorization: 'Bearer ${key}'}\n"
    )
    data, converted = exported(rules, tmp_path)
    headers = [rule["action"]["headers"][0] for rule in data["rules"]]  # type: ignore[attr-defined]
    assert headers == [
        {
            "operation": "Set",
            "name": "Authorization",
            "valueRef": {"secretRef": {"secretId": "key", "format": "Bearer {value}"}},
        },
        {"operation": "Remove", "name": "Authorization"},
    ]
    assert (5, "narrower") in effects(converted)


# What a secret is bound to besides its host, the conditions of the rule that injects it, and whether Azure sends it.
BINDINGS = (
    ("", "", True),
    ("methods: [GET]", "", False),
    ("methods: [GET]", "methods: [GET, POST]", False),
    ("methods: [GET, POST]", "methods: [GET]", True),
    ("paths: [/v1/**]", "", False),
    ("paths: [/v1/**]", "paths: [/v1/**, /v2/**]", False),
    ("paths: [/v1/**]", "paths: [/v1/**]", True),
)


@pytest.mark.parametrize(("binding", "condition", "sent"), BINDINGS)
def test_a_secret_goes_out_with_no_more_requests_than_it_is_bound_to(
    binding: str, condition: str, tmp_path: Path, *, sent: bool
) -> None:
    """There the rule alone says which requests carry it, so a rule that is wider than the binding goes without."""
    rules = (
        f"secrets:\n  key: {{{', '.join(['env: KEY, hosts: [a.example.com]', *([binding] if binding else [])])}}}\n"
        f"rules:\n  - {{{', '.join(['allow: a.example.com', *([condition] if condition else [])])}, "
        "inject: {Authorization: '${key}'}}\n"
    )
    data, converted = exported(rules, tmp_path)
    headers = [rule["action"]["headers"][0] for rule in data["rules"] if "headers" in rule["action"]]  # type: ignore[attr-defined]
    assert {header["operation"] for header in headers} == {"Set" if sent else "Remove"}
    assert ((5, "narrower") in effects(converted)) is not sent


# A secret's source, and how Azure refers to it.
REFERENCES = (
    ("env: KEY", {"secretRef": {"secretId": "key"}}),
    ("azure: {resource: 'https://v.example'}", {"managedIdentityRef": {"resource": "https://v.example"}}),
    ("azure: {resource: 'https://v.example', identity: {client_id: x}}", {"secretRef": {"secretId": "key"}}),
    ("azure: {vault: 'https://v.vault.azure.net', secret: s}", {"secretRef": {"secretId": "key"}}),
    ("store: other", {"secretRef": {"secretId": "key"}}),
)


@pytest.mark.parametrize(("source", "reference"), REFERENCES, ids=[source for source, _ in REFERENCES])
def test_only_the_machine_s_own_identity_goes_out_as_one(source: str, reference: object, tmp_path: Path) -> None:
    """A reference there names no identity, so a token of a named one is a secret. What a store binds to is told."""
    rules = (
        f"secrets:\n  key: {{{source}, hosts: [a.example.com]}}\n"
        "rules:\n  - {allow: a.example.com, inject: {Authorization: '${key}'}}\n"
    )
    data, converted = exported(rules, tmp_path)
    assert [rule["action"]["headers"][0]["valueRef"] for rule in data["rules"]] == [reference]  # type: ignore[attr-defined]
    opened = [loss.message for loss in converted.losses if loss.effect is Effect.OPEN]
    assert any("what the store binds" in message for message in opened) is ("store" in source)


# What cannot be read, and what it becomes: never an `allow`.
REFUSED = (
    ("match: {host: a.example.com, port: 8443}\n    action: {type: Allow}", "an unknown condition"),
    ("match: {host: a.example.com}\n    action: {type: Allow, quota: 5}", "an unknown part of an action"),
    ("when: night\n    match: {host: a.example.com}\n    action: {type: Allow}", "an unknown key of the rule"),
    ("match: {host: a.example.com, path: /v1/x*}\n    action: {type: Allow}", "a star inside a segment"),
    ("match: {host: a.example.com, methods: [TRACE]}\n    action: {type: Allow}", "methods that no rule allows"),
    ("match: {host: a.example.com}\n    action: {type: Rewrite, host: b.example.com, path: /x}", "a rewrite of paths"),
    (
        "match: {host: a.example.com}\n    action: {type: Transform, headers: [{name: A, valueRef: {vault: x}}]}",
        "an unknown reference",
    ),
    (
        "match: {}\n    action: {type: Transform, headers: [{name: A, valueRef: {secretRef: {secretId: x}}}]}",
        "a secret for every host",
    ),
)


def test_a_rewrite_goes_where_a_rule_allows_it(tmp_path: Path) -> None:
    """It is said as one, the loss says what else it needs, and without that it refuses."""
    rewrite = "match: {host: a.example.com}\n    action: {type: Rewrite, scheme: https, host: b.example.com}"
    converted = from_azure_policy(f"defaultAction: Deny\nrules:\n  - {rewrite}\n", "azure.yaml")
    assert Effect.NARROWER in {loss.effect for loss in converted.losses}
    assert not allows(load(converted.text, tmp_path), "GET", "http://a.example.com/")
    allowed = load(f"{converted.text}  - allow: b.example.com\n", tmp_path)
    assert allows(allowed, "GET", "http://a.example.com/")
    (rule, _) = allowed.policy.scopes[0].rules
    assert rule.rewrite == Rewrite(Scheme.HTTPS, Host("b.example.com"))


@pytest.mark.parametrize(("rule", "what"), REFUSED, ids=[what for _, what in REFUSED])
def test_what_cannot_be_said_becomes_a_deny_in_its_place(rule: str, what: str, tmp_path: Path) -> None:
    """A later rule of the same host must not speak for its requests."""
    assert what
    after = "  - match: {host: a.example.com}\n    action: {type: Allow}\n"
    converted = from_azure_policy(f"defaultAction: Deny\nrules:\n  - {rule}\n{after}", "azure.yaml")
    assert Effect.LEFT_OUT in {loss.effect for loss in converted.losses}
    loaded = load(converted.text, tmp_path)
    for path in ("/", "/v1/x1"):
        assert not allows(loaded, "GET", f"https://a.example.com{path}")


# Denials with parts that no rule here can say: more is denied, never less.
WIDER_DENIALS = (
    "{host: a.example.com, path: /v1/x*}",
    "{host: a.example.com, methods: [TRACE]}",
    "{host: a.example.com, port: 1}",
    '{host: "*.com"}',
    "{host: a*.example.com}",
)


@pytest.mark.parametrize("match", WIDER_DENIALS)
def test_a_denial_that_cannot_be_said_denies_the_whole_host(match: str, tmp_path: Path) -> None:
    """Each with its line in the report."""
    text = f"defaultAction: Allow\nrules:\n  - match: {match}\n    action: {{type: Deny}}\n"
    converted = from_azure_policy(text, "azure.yaml")
    assert (3, "narrower") in effects(converted)
    assert not allows(load(converted.text, tmp_path), "GET", "https://a.example.com/")


def test_denials_of_host_rules_stand_before_and_after_the_rules(tmp_path: Path) -> None:
    """The documents disagree about which come first, so what either order denies is denied."""
    text = (
        "defaultAction: Deny\n"
        "hostRules:\n  - {pattern: bad.example, action: Deny}\n  - {pattern: '*.example', action: Allow}\n"
        "rules:\n  - match: {host: bad.example}\n    action: {type: Allow}\n"
        "  - match: {host: a.b.example.org}\n    action: {type: Allow}\n"
    )
    loaded = load(from_azure_policy(text, "azure.yaml").text, tmp_path)
    assert not allows(loaded, "GET", "https://bad.example/")
    assert allows(loaded, "GET", "https://a.b.example.org/")


def test_inspection_modes_become_tls_modes() -> None:
    """What the mode lets pass unread is refused here, and told."""
    for mode, tls, lost in (
        ("Full", "inspect", False),
        ("Partial", "auto", True),
        ("Legacy", "inspect", True),
        ("None", "inspect", True),
    ):
        converted = from_azure_policy(f"trafficInspection: {mode}\n", "azure.yaml")
        assert f"tls: {tls}\n" in converted.text
        assert bool(converted.losses) is lost


def test_a_sandbox_request_in_json_with_tabs_is_read(tmp_path: Path) -> None:
    """The policy may stand inside the request that makes a sandbox."""
    policy = {"defaultAction": "Deny", "rules": [{"match": {"host": "a.example.com"}, "action": {"type": "Allow"}}]}
    text = json.dumps({"properties": {"egressPolicy": policy}}, indent="\t")
    assert allows(load(from_azure_policy(text, "a.json").text, tmp_path), "GET", "https://a.example.com/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: {}\n", "rules: should be a list"),
        ("rules: [1]\n", "rules[0]: should be a mapping"),
        ("rules:\n  - match: {host: a}\n", "azure.yaml:2: rules[0]: a rule needs an `action`"),
        ("rules:\n  - action: {type: Permit}\n", "rules[0].action.type: `Permit` is none of Allow, Deny"),
        ("defaultAction: Maybe\n", "azure.yaml:1: defaultAction: `Maybe` is none of Allow, Deny"),
    ],
)
def test_a_wrong_shape_is_an_error_with_its_line(text: str, said: str) -> None:
    """Nothing is guessed about a policy."""
    with pytest.raises(ConversionError) as raised:
        from_azure_policy(text, "azure.yaml")
    assert said in str(raised.value)


def test_what_yaml_refuses_is_told_by_the_loader() -> None:
    """A key twice, as in our own files."""
    with pytest.raises(ConfigError, match="stands here twice"):
        from_azure_policy("defaultAction: Deny\ndefaultAction: Allow\n", "azure.yaml")


PATHS = (
    (None, [AzurePath(None)], []),
    (("/**",), [AzurePath(None)], []),
    (("/v1/**",), [AzurePath("/v1/*")], []),
    (("/v1", "/v1/**"), [AzurePath("/v1")], []),
    (("/v1",), [AzurePath("/v1", "/v1/*")], []),
    (("/",), [AzurePath("/", "/*")], []),
    (("/a", "/a/b"), [AzurePath("/a/b", "/a/b/*"), AzurePath("/a", "/a/*")], []),
    (("/a/*/b/**",), [AzurePath("/a/*/b/*")], []),
    (("/**/x", "/a/"), [], ["/**/x", "/a/"]),
)


@pytest.mark.parametrize(("patterns", "paths", "lost"), PATHS)
def test_paths_go_out_as_prefixes_with_guards(
    patterns: tuple[str, ...] | None, paths: list[AzurePath], lost: list[str]
) -> None:
    """A path that ends here ends there too: what is below is refused first. The longer path comes first."""
    assert to_azure(patterns) == (paths, lost)


def test_paths_come_in_as_prefixes() -> None:
    """`/v1` is itself and all below; what has a star inside a segment cannot be read."""
    assert from_azure("/v1") == ("/v1", "/v1/**")
    assert from_azure("/v1/") == ("/v1", "/v1/**")
    assert from_azure("/v1/*") == ("/v1/**",)
    assert from_azure("/a/*/b") == ("/a/*/b", "/a/*/b/**")
    assert from_azure("/") == from_azure("/*") == ()
    assert from_azure("/v1/x*") is from_azure("v1") is from_azure("/a/**/b") is None


def test_a_whole_path_stays_whole(tmp_path: Path) -> None:
    """What is below an allowed path is refused there, as it is here."""
    out = to_azure_policy(load("version: 1\nrules:\n  - allow: a.example.com\n    paths: [/v1]\n", tmp_path))
    again = load(from_azure_policy(out.text, "again.yaml").text, tmp_path)
    assert allows(again, "GET", "https://a.example.com/v1")
    assert not allows(again, "GET", "https://a.example.com/v1/x")


# Rules with what Azure cannot say, the line and effect of the loss, and the hosts that are allowed all the same.
LOST = (
    ("rules:\n  - allow: a.example.com:8443\n", (3, "left out"), []),
    ("rules:\n  - allow: a.example.com\n    ports: [443]\n", (3, "left out"), []),
    ("rules:\n  - allow: a.example.com\n    protocol: https\n", (3, "left out"), []),
    ("rules:\n  - allow: [10.0.0.0/8, a.example.com]\n", (3, "left out"), ["a.example.com"]),
    ("rules:\n  - allow: a.example.com\n    paths: [/**/x]\n", (3, "left out"), []),
    ("rules:\n  - deny: 198.51.100.1\n  - allow: a.example.com\n", (None, "open"), ["a.example.com"]),
    ("rules:\n  - deny: 8.8.8.0/24\n  - allow: a.example.com\n", (3, "wider"), ["a.example.com"]),
    ("rules:\n  - ask: b.example.com\n  - allow: a.example.com\n", (3, "narrower"), ["a.example.com"]),
    ("rules:\n  - allow: .example.com\n", (3, "note"), ["example.com", "*.example.com"]),
    ("default: allow\nrules:\n  - deny: 10.0.0.0/8\n", (4, "wider"), []),
    ("default: allow\nrules:\n  - deny: [10.0.0.0/8, a.example.com]\n", (4, "wider"), []),
    ("default: ask\nrules:\n  - allow: a.example.com\n", (None, "narrower"), ["a.example.com"]),
)


@pytest.mark.parametrize(("rules", "loss", "hosts"), LOST)
def test_what_cannot_be_said_is_reported_and_never_wider(
    rules: str, loss: tuple[int | None, str], hosts: list[str], tmp_path: Path
) -> None:
    """With the line of the rule that it came from."""
    data, converted = exported(rules, tmp_path)
    assert loss in effects(converted)
    written = [rule["match"]["host"] for rule in data["rules"] if rule["action"]["type"] == "Allow"]  # type: ignore[attr-defined]
    assert written == hosts


def test_a_condition_that_is_not_known_keeps_the_rule_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition that the language gets one day is not dropped by a conversion that never heard of it."""
    from egress.review.convert import outgoing

    monkeypatch.setattr(outgoing, "conditions", lambda _: frozenset({"until"}))
    data, converted = exported("rules:\n  - allow: a.example.com\n", tmp_path)
    assert data["rules"] == []
    assert [loss.message for loss in converted.losses] == ["the other side cannot say `until`"]


def test_widening_is_kept_only_when_asked_for(tmp_path: Path) -> None:
    """And then told as what it is."""
    rules = "rules:\n  - allow: a.example.com\n    protocol: https\n"
    data, converted = exported(rules, tmp_path, keep_wider=True)
    assert len(data["rules"]) == 1  # type: ignore[arg-type]
    assert (3, "wider") in effects(converted)
    assert converted.widens


def test_two_scopes_are_not_one_policy(tmp_path: Path) -> None:
    """The strictest of what scopes say cannot be said by one list."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n")
    loaded = load_policy([PolicySource(Scope.ORG, path), PolicySource(Scope.SANDBOX, path)])
    with pytest.raises(ConversionError, match="the formats know no scopes"):
        to_azure_policy(loaded)


@pytest.mark.parametrize(
    ("paths", "narrower"),
    [("[/admin]", True), ("[/a/*]", True), ("[/admin, /admin/**]", False), ("[/admin/**]", False)],
)
def test_a_denied_path_that_becomes_a_prefix_is_told(paths: str, narrower: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """There it refuses what is below as well; what a rule refuses whole is no loss."""
    text = f"version: 1\nrules:\n  - deny: api.example.com\n    paths: {paths}\n  - allow: api.example.com\n"
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    converted = to_azure_policy(load_policy([PolicySource(Scope.SANDBOX, path)]))
    told = [loss for loss in converted.losses if loss.line == 3 and loss.effect is Effect.NARROWER]
    assert bool(told) is narrower


@pytest.mark.parametrize(
    ("paths", "after", "narrower"),
    [("[/a]", "/a/b", True), ("[/a, /a/**]", "/a/b", False), ("[/a]", None, False)],
)
def test_a_path_that_hides_what_a_later_rule_allows_is_told(
    paths: str, after: str | None, *, narrower: bool, tmp_path: Path
) -> None:
    """What is below an allowed path is refused before it, and so before whatever comes later."""
    text = f"version: 1\nrules:\n  - allow: api.example.com\n    paths: {paths}\n"
    if after is not None:
        text += f"  - allow: api.example.com\n    paths: [{after}]\n"
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    converted = to_azure_policy(load_policy([PolicySource(Scope.SANDBOX, path)]))
    told = [loss for loss in converted.losses if loss.line == 3 and loss.effect is Effect.NARROWER]
    assert bool(told) is narrower
