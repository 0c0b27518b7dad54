"""Laws of the config room: whatever the bytes, an answer; whatever is loaded, nothing wider than was written."""

# ruff: noqa: E501  a row of a table is one line

from __future__ import annotations

import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.config import EnvSource, PolicySource, SecretDefinition, is_bound, load_policy, parse_pin, template_text
from egress.config.bindings import Bound, bound
from egress.config.document import read_document
from egress.config.pins import Pin
from egress.config.templates import read_template
from egress.errors import ConfigError
from egress.policy import PortRange, Scope, SecretRef, Target, parse_host, parse_target
from egress.policy.values import Host

YAML_ALPHABET = string.ascii_lowercase + string.digits + " \n\t:-[]{}*&!#|>'\"%@`,?~.$/"


@given(st.text(alphabet=YAML_ALPHABET, max_size=200))
@settings(max_examples=300)
def test_reading_any_text_gives_a_tree_or_problems(text: str) -> None:
    """The reader never raises, and never gives neither."""
    document, problems = read_document(text, "f.yaml")
    assert document is not None or problems
    assert all(problem.message for problem in problems)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["api.example.com", "*.example.com", "**", "10.0.0.0/8", "GET", "/v1", "https", "tunnel", "${k}"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["allow", "deny", "ask", "ports", "methods", "paths", "protocol", "tls", "http2", "inject", "file", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES, VALUES, VALUES)
@settings(max_examples=200)
def test_loading_any_values_gives_a_policy_or_problems(rule: object, secret: object, default: object) -> None:
    """No value in any place is a crash; each problem has a line."""
    import json

    text = json.dumps({"version": 1, "rules": [rule], "secrets": {"k": secret}, "default": default})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.yaml"
        path.write_text(text)
        try:
            loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
        except ConfigError as error:
            told = error.problems
        else:
            told = loaded.warnings
            assert all(rule.targets for scope in loaded.policy.scopes for rule in scope.rules)
    assert all(problem.line and problem.message for problem in told)
    assert told or isinstance(rule, dict)


PARTS = st.lists(
    st.text(alphabet=string.ascii_letters + "$ .", min_size=1, max_size=5) | st.sampled_from(["a", "b"]).map(SecretRef),
    min_size=1,
    max_size=5,
)


@given(PARTS)
def test_template_written_and_read_is_itself(parts: list[str | SecretRef]) -> None:
    """`$$`, `${name}` and text survive in any mixture."""
    text = template_text(tuple(parts))
    if text != text.strip(" "):
        return
    assert template_text(read_template(text)) == text


@given(st.text(max_size=40))
def test_template_of_any_text_reads_or_says_why(text: str) -> None:
    """ValueError with a message and a hint, nothing else; what reads has no character that ends a header."""
    try:
        parts = read_template(text)
    except ValueError as error:
        parts = ("-",)
        said = str(error)
    else:
        said = "none; none"
    assert "; " in said
    assert all(" " <= char <= "~" for part in parts if isinstance(part, str) for char in part)


TARGETS = ["example.com", "a.example.com", "*.example.com", ".example.com", "*.a.example.com", "other.org", "a.example.com:8443",
           "10.1.2.3", "10.0.0.0/8", "2001:db8::/32", "**"]  # fmt: skip
HOSTS = [
    "example.com",
    "a.example.com",
    "x.a.example.com",
    "b.example.com",
    "other.org",
    "10.1.2.3",
    "10.9.9.9",
    "2001:db8::1",
]


def target(text: str) -> Target:
    """A target that must parse."""
    parsed = parse_target(text)
    assert isinstance(parsed, Target)
    return parsed


def names(one: Target, host: Host, port: int) -> bool:
    """Whether a rule's target names a destination, with the ports 443 by default."""
    if one.what == target("**").what:
        return port == 443 and host.address is None
    return is_bound([one], host, port)


@pytest.mark.parametrize("text", TARGETS)
@pytest.mark.parametrize("hosts", [TARGETS[index : index + 2] for index in range(len(TARGETS) - 2)])
def test_bound_answers_as_trying_every_host_would(text: str, hosts: list[str]) -> None:
    """ALWAYS and NEVER are checked against single destinations: a wrong one would be a false error or no error."""
    answer = bound(target(text), None, [target(host) for host in hosts])
    for name in HOSTS:
        host = parse_host(name)
        assert isinstance(host, Host)
        for port in (443, 8443):
            if names(target(text), host, port):
                inside = is_bound([target(h) for h in hosts], host, port)
                assert not (inside and answer is Bound.NEVER)
                assert not (not inside and answer is Bound.ALWAYS)


@pytest.mark.parametrize(
    ("hosts", "name", "port", "held"),
    [
        (["a.example.com"], "a.example.com", 443, True),
        (["a.example.com"], "a.example.com", 8443, False),
        (["a.example.com"], "a.example.com", 80, False),
        (["a.example.com:8443"], "a.example.com", 8443, True),
        (["a.example.com:8443"], "a.example.com", 443, False),
        (["*.example.com"], "example.com", 443, False),
        (["*.example.com"], "x.a.example.com", 443, True),
        ([".example.com"], "example.com", 443, True),
        ([".example.com"], "notexample.com", 443, False),
        (["10.0.0.0/8"], "10.1.2.3", 443, True),
        (["10.0.0.0/8"], "a.example.com", 443, False),
        (["**"], "a.example.com", 443, False),
        ([], "a.example.com", 443, False),
    ],
)
def test_is_bound_truth_table(hosts: list[str], name: str, port: int, *, held: bool) -> None:
    """INVARIANT secret-confinement: only what a binding names, on its port, 443 if it names none."""
    host = parse_host(name)
    assert isinstance(host, Host)
    assert is_bound([target(text) for text in hosts], host, port) is held


@pytest.mark.parametrize(
    ("text", "ports", "hosts", "answer"),
    [
        ("a.example.com", None, ["a.example.com"], Bound.ALWAYS),
        ("a.example.com", None, [".example.com"], Bound.ALWAYS),
        (".example.com", None, ["*.example.com"], Bound.SOMETIMES),
        (".example.com", None, ["example.com", "*.example.com"], Bound.ALWAYS),
        ("*.example.com", None, ["a.example.com"], Bound.SOMETIMES),
        ("a.example.com", None, ["a.example.com:8443"], Bound.NEVER),
        ("a.example.com", [PortRange(443, 8443)], ["a.example.com"], Bound.SOMETIMES),
        ("a.example.com", [PortRange(443, 444)], ["a.example.com", "a.example.com:444"], Bound.ALWAYS),
        ("**", None, ["a.example.com"], Bound.SOMETIMES),
        ("10.1.0.0/16", None, ["10.0.0.0/8"], Bound.ALWAYS),
        ("10.0.0.0/8", None, ["10.1.0.0/16"], Bound.SOMETIMES),
        ("10.0.0.0/8", None, ["2001:db8::/32"], Bound.NEVER),
        ("notexample.com", None, [".example.com"], Bound.NEVER),
    ],
)
def test_bound_truth_table(text: str, ports: list[PortRange] | None, hosts: list[str], answer: Bound) -> None:
    """Ports count: a binding without one is 443 alone."""
    assert bound(target(text), ports, [target(host) for host in hosts]) is answer


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("db.example.com:10.1.2.3", ("db.example.com", ["10.1.2.3"])),
        ("DB.Example.com.:10.1.2.3,10.1.2.4", ("db.example.com", ["10.1.2.3", "10.1.2.4"])),
        ("db.example.com:2001:db8::1", ("db.example.com", ["2001:db8::1"])),
        ("db.example.com:[2001:db8::1],10.0.0.1", ("db.example.com", ["2001:db8::1", "10.0.0.1"])),
        ("db.example.com", None),
        ("db.example.com:", None),
        (":10.1.2.3", None),
        ("db.example.com:db2.example.com", None),
        ("10.1.2.3:10.1.2.4", None),
        ("a..b:10.1.2.4", None),
    ],
)
def test_pins_truth_table(text: str, pin: tuple[str, list[str]] | None) -> None:
    """A pin is a canonical name and addresses, or a message."""
    parsed = parse_pin(text)
    if pin is None:
        assert not isinstance(parsed, Pin)
        assert "NAME:IP" in parsed.hint
    else:
        assert isinstance(parsed, Pin)
        assert (parsed.name, [str(address) for address in parsed.addresses]) == pin


def test_definition_holds_no_value() -> None:
    """INVARIANT secret-confinement: what configuration knows of a secret can be printed."""
    assert "K" in repr(SecretDefinition("k", EnvSource("K"), ()))
