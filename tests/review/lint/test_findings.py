"""Each check: a policy in which it finds something, and the nearest one in which it must not."""

# ruff: noqa: E501  a row is one policy

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import policy_builders as make
import pytest

from egress.config import PolicySource
from egress.errors import Problem
from egress.policy import PortRange, Rule, Scope
from egress.policy.targets import _PUBLIC_SUFFIXES
from egress.review.lint import Code, Severity, check_sources
from egress.review.lint import terms as lint_terms
from egress.review.lint.loading import of_warning
from egress.review.lint.places import MOST_COMPARED
from egress.review.lint.services import _SHARED
from egress.review.lint.unseen import SOON as WARNED
from egress.review.lint.unseen import find_case, find_expired, find_in_tunnels
from egress.review.lint.unspoken import LIST, find_unspoken

from .build import NOW, checked, codes, with_terms

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

API = "secrets:\n  api: {env: API_KEY, hosts: [%s]}\n"

# A name for the row, the rules in YAML, and the codes of all findings.
ROWS: dict[str, tuple[str, str]] = {
    # a deny or ask that never holds
    "deny after the allow": ("rules: [{allow: a.example.com}, {deny: a.example.com, methods: [DELETE]}]", "E101"),
    "deny before the allow": ("rules: [{deny: a.example.com, methods: [DELETE]}, {allow: a.example.com}]", ""),
    "whole deny after the allow": ("rules: [{allow: a.example.com}, {deny: a.example.com}]", "E101"),
    "ask after the allow": ("rules: [{allow: a.example.com}, {ask: a.example.com, paths: [/x]}]", "E101"),
    "deny after the ask": ("rules: [{ask: a.example.com}, {deny: a.example.com, methods: [PUT]}]", "E101"),
    "ask after the deny": ("rules: [{deny: a.example.com}, {ask: a.example.com, methods: [PUT]}]", "W102"),
    "deny below an allowed apex and more": ("rules: [{allow: .example.com}, {deny: a.example.com}]", "E101"),
    "deny of what is not below": ("rules: [{allow: '*.example.com'}, {deny: example.com}]", "N107"),
    "deny after an allow of other methods": ("rules: [{allow: a.example.com, methods: [GET]}, {deny: a.example.com, methods: [PUT]}]", ""),
    "deny after an allow of its method": ("rules: [{allow: a.example.com, methods: [GET, PUT]}, {deny: a.example.com, methods: [PUT]}]", "E101"),
    "deny of every method after an allow of one": ("rules: [{allow: a.example.com, methods: [GET]}, {deny: a.example.com}]", ""),
    "deny of a path inside an allowed one": ("rules: [{allow: a.example.com, paths: [/a/**]}, {deny: a.example.com, paths: [/a/b]}]", "E101"),
    "deny of a path outside an allowed one": ("rules: [{allow: a.example.com, paths: [/a/**]}, {deny: a.example.com, paths: [/a]}]", ""),
    "deny of a path pattern inside one": ("rules: [{allow: a.example.com, paths: [/a/**]}, {deny: a.example.com, paths: ['/a/*/c', '/a/**/d']}]", "E101"),
    "deny of a wider path pattern": ("rules: [{allow: a.example.com, paths: ['/a/*']}, {deny: a.example.com, paths: ['/a/**']}]", ""),
    "odd paths that a later allow lets pass": ("rules: [{allow: a.example.com, paths: [/a]}, {deny: a.example.com, paths: [/a]}, {allow: a.example.com}]", ""),
    "odd methods that a later allow lets pass": ("rules: [{allow: a.example.com, methods: [PUT]}, {deny: a.example.com, methods: [PUT]}, {allow: a.example.com}]", ""),
    "deny on a port that a later allow serves": ("rules: [{allow: a.example.com}, {deny: a.example.com, methods: [PUT]}, {allow: a.example.com, ports: [8443]}]", ""),
    "deny on ports of two allows before it": ("rules: [{allow: 'a.example.com:443'}, {allow: 'a.example.com:80', protocol: http}, {deny: a.example.com}]", "E101"),
    "deny in a scope that allows by default": ("default: allow\nrules: [{allow: a.example.com}, {deny: a.example.com}]", "W202"),
    "deny that a tunnel needs": ("rules: [{allow: a.example.com, inject: {x-a: b}}, {deny: a.example.com}, {allow: a.example.com, tls: tunnel}]", "W102"),
    "deny of a range after its allow": ("rules: [{allow: 10.0.0.0/8}, {deny: 10.1.0.0/16}]", ""),
    "deny of a range after a deny of every name": ("rules: [{allow: a.example.com, addresses: [10.0.0.0/8]}, {deny: '**'}, {deny: 10.1.0.0/16}]", ""),
    # rules that earlier ones refuse, or say already
    "allow after the deny": ("rules: [{deny: .example.com}, {allow: a.example.com}]", "W102"),
    "allow after a deny of one method": ("rules: [{deny: .example.com, methods: [PUT]}, {allow: a.example.com}]", ""),
    "allow of an address after its range": ("rules: [{deny: 10.0.0.0/8}, {allow: 10.1.2.3}]", "W102"),
    "allow of an address after a deny of everything": ("rules: [{deny: '**'}, {allow: 10.1.2.3}]", "W102"),
    "allow of an address after an allow of every name": ("rules: [{allow: '**'}, {allow: 10.1.2.3}]", "W201"),
    "the same rule twice": ("rules: [{allow: a.example.com}, {allow: a.example.com, name: again}]", "W103"),
    "the same rule on another port": ("rules: [{allow: 'a.example.com:443'}, {allow: 'a.example.com:8443'}]", ""),
    "the same rule with a secret header": ("rules: [{allow: a.example.com, methods: [GET]}, {allow: a.example.com, methods: [GET], remove: [Cookie]}]", "W104"),
    "a narrower allow": ("rules: [{allow: .example.com}, {allow: a.example.com, methods: [GET]}]", "W104"),
    "a narrower allow first": ("rules: [{allow: a.example.com, methods: [GET]}, {allow: .example.com}]", ""),
    "an allow with WebSocket after one without": ("rules: [{allow: a.example.com, protocol: https}, {allow: a.example.com}]", ""),
    "an allow of raw TCP after one of HTTP": ("rules: [{allow: a.example.com}, {allow: a.example.com, protocol: tcp, ports: [5432]}]", ""),
    "an allow that a tunnel needs": ("rules: [{allow: a.example.com, remove: [Cookie]}, {allow: a.example.com, tls: tunnel}]", ""),
    "an allow that turns HTTP/2 on": ("rules: [{allow: a.example.com, methods: [GET]}, {allow: a.example.com, methods: [GET], http2: true}]", ""),
    "a narrower deny": ("rules: [{deny: .example.com}, {deny: a.example.com}, {allow: .example.com}]", "W104 W102"),
    "a narrower range": ("rules: [{deny: 10.0.0.0/8}, {deny: 10.1.0.0/16}]", "W104"),
    "a range of the other version": ("rules: [{deny: 0.0.0.0/0}, {deny: 'fd00::/8'}]", ""),
    # parts of rules
    "one target of a deny": ("rules: [{allow: a.example.com}, {deny: [a.example.com, b.example.com]}, {allow: .example.com}]", "W105"),
    "one target of an allow": ("rules: [{deny: a.example.com}, {allow: [a.example.com, b.example.com]}]", "N106"),
    "a target twice": ("rules: [{allow: [a.example.com, b.example.com, a.example.com]}]", "N106"),
    "a target below another": ("rules: [{allow: [.example.com, a.example.com]}]", "N106"),
    "a target on two ports": ("rules: [{allow: ['a.example.com:443', 'a.example.com:8443']}]", ""),
    # nothing to refuse
    "deny of what nothing allows": ("rules: [{deny: a.example.net}, {allow: .example.com}]", "N107"),
    "deny below what is allowed": ("rules: [{deny: a.example.com}, {allow: .example.com}]", ""),
    "deny around what is allowed": ("rules: [{deny: '*.example.com'}, {allow: a.example.com}, {allow: example.com}]", "W102"),
    "deny on ports that nothing allows": ("rules: [{deny: a.example.com, ports: [25]}, {allow: .example.com}]", "N107"),
    "deny of an address": ("rules: [{deny: 169.254.169.254}, {allow: .example.com}]", ""),
    "deny of what a default allows": ("default: allow\nrules: [{deny: a.example.net}]", "W202"),
    # breadth
    "every host": ("rules: [{allow: '**'}]", "W201"),
    "every host denied": ("rules: [{allow: a.example.com}, {deny: '**', ports: [25]}]", "N107"),
    "shared hosting": ("rules: [{allow: .amazonaws.com}]", "W203"),
    "shared hosting of a region": ("rules: [{allow: .s3.eu-west-1.amazonaws.com}]", "W203"),
    "one host of shared hosting": ("rules: [{allow: acme.s3.amazonaws.com}]", ""),
    "all below one host of shared hosting": ("rules: [{allow: .acme.s3.amazonaws.com}]", ""),
    "shared hosting denied": ("rules: [{deny: .s3.amazonaws.com}, {allow: .example.com}]", "N107"),
    "a wide range": ("rules: [{allow: 52.0.0.0/10}]", "W204"),
    "a wide range of IPv6": ("rules: [{allow: '2600::/12'}]", "W204"),
    "half of all addresses": ("rules: [{allow: a.example.com, addresses: [0.0.0.0/1]}]", "W204"),
    "a range as wide as is told": ("rules: [{allow: 52.1.0.0/16}]", ""),
    "a private range": ("rules: [{allow: a.example.com, addresses: [10.0.0.0/8]}, {allow: 172.16.0.0/12}]", ""),
    "a wide range denied": ("rules: [{deny: 52.0.0.0/8}]", ""),
    "no apex": ("rules: [{allow: '*.example.com'}]", "W205"),
    "the apex in another rule": ("rules: [{allow: '*.example.com'}, {deny: example.com}]", "N107"),
    "the apex in a wildcard above": ("rules: [{allow: '*.a.example.com'}, {allow: .example.com, methods: [GET]}]", ""),
    "no apex in a deny": ("rules: [{deny: '*.example.com'}, {allow: a.example.com, methods: [GET]}]", "W205 W102"),
    "raw TCP on 443": ("rules: [{allow: a.example.com, protocol: tcp, ports: [443]}]", "W206"),
    "raw TCP on a port of a target": ("rules: [{allow: 'a.example.com:8080', protocol: tcp}]", "W206"),
    "raw TCP on another port": ("rules: [{allow: a.example.com, protocol: tcp, ports: [5432]}]", ""),
    "HTTPS on 443": ("rules: [{allow: a.example.com, protocol: https, ports: [443]}]", ""),
    # what nothing carries, and what holds for more than is meant
    "questions": ("rules: [{allow: a.example.com, protocol: dns}]", ""),
    "questions besides": ("rules: [{allow: a.example.com, protocol: [https, dns]}]", ""),
    "questions for all below": ("rules: [{allow: .example.com, protocol: [https, dns]}]", "W407"),
    "questions for all below, denied": ("rules: [{deny: .example.com, protocol: dns}, {allow: .example.com}]", "N107"),
    "questions that are allowed on no port": ("rules: [{allow: a.example.com}, {allow: a.example.com, protocol: dns}]", ""),
    "the same questions twice": ("rules: [{allow: a.example.com, protocol: dns}, {allow: 'a.example.com:443', protocol: dns}]", "W104"),
    "questions denied that nothing allows": ("rules: [{deny: a.example.com, protocol: dns}, {allow: a.example.com}]", "N107"),
    "questions denied that are allowed later": ("rules: [{deny: a.example.com, protocol: dns}, {allow: a.example.com, protocol: [https, dns]}]", ""),
    "questions after a deny of some requests": ("rules: [{deny: a.example.com, methods: [PUT]}, {allow: a.example.com, protocol: [https, dns]}]", ""),
    "questions after a deny of the host": ("rules: [{deny: a.example.com}, {allow: a.example.com, protocol: dns}]", "W102"),
    "a deny of bodies": ("rules: [{deny: a.example.com, graphql: {operations: [mutation]}}, {allow: a.example.com}]", "W408"),
    "an ask of bodies": ("rules: [{ask: a.example.com, methods: [POST], mcp: {tools: [x]}}, {allow: a.example.com}]", "W408"),
    "a deny of bodies at a path": ("rules: [{deny: a.example.com, paths: [/mcp], mcp: {tools: [x]}}, {allow: a.example.com}]", ""),
    "an allow of bodies": ("rules: [{allow: a.example.com, mcp: {tools: [x]}}]", ""),
    "report mode": ("mode: report\nrules: [{allow: a.example.com}]", "W207"),
    "enforcing": ("mode: enforce\nrules: [{allow: a.example.com}]", ""),
    "deny of what nothing allows, in report mode": ("mode: report\nrules: [{deny: a.example.net}]", "W207"),
    # secrets
    "a secret to a wildcard": (API % "'*.example.com'" + "rules: [{allow: .example.com, inject: {x-a: '${api}'}}]", "W301 W302"),
    "a secret bound to a wildcard": (API % ".example.com" + "rules: [{allow: a.example.com, inject: {x-a: '${api}'}}]", "W301"),
    "a secret to a host": (API % "a.example.com" + "rules: [{allow: a.example.com, inject: {x-a: '${api}'}}]", ""),
    "a header without a secret to a wildcard": ("rules: [{allow: .example.com, inject: {x-a: b}}]", ""),
    "a secret over plain HTTP": (API % "a.example.com" + "rules: [{allow: a.example.com, protocol: [http, https], inject: {x-a: '${api}'}}]", "W303"),
    "a secret on port 80": (API % "a.example.com" + "rules: [{allow: a.example.com, ports: [80, 443], inject: {x-a: '${api}'}}]", "W302 W303"),
    "a secret over TLS": (API % "a.example.com" + "rules: [{allow: a.example.com, protocol: [https, wss], inject: {x-a: '${api}'}}]", ""),
    "a header without a secret over plain HTTP": ("rules: [{allow: a.example.com, protocol: [http, https], inject: {x-a: b}}]", ""),
    # conditions that do not hold as written
    "a deny in a tunnel": ("tls: tunnel\nrules: [{deny: a.example.com, methods: [PUT]}, {allow: .example.com}]", "W402"),
    "a deny beside a tunnel": ("rules: [{deny: a.example.com, methods: [PUT]}, {allow: .example.com, tls: tunnel}]", ""),
    "a refused path of a host that ignores case": ("rules: [{deny: api.github.com, paths: [/admin]}, {allow: api.github.com}]", "W403"),
    "a refused path of all below one": ("rules: [{deny: .github.com, paths: [/admin]}, {allow: api.github.com}]", "W403"),
    "a refused path without letters": ("rules: [{deny: api.github.com, paths: [/1/**]}, {allow: api.github.com}]", ""),
    "a refused path of another host": ("rules: [{deny: a.example.com, paths: [/admin]}, {allow: a.example.com}]", ""),
    "an allowed path of a host that ignores case": ("rules: [{allow: api.github.com, paths: [/admin]}]", "N404"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_policy_has_these_findings_and_no_others(row: str, tmp_path: Path) -> None:
    """The table: the second of a pair is the near miss."""
    text, expected = ROWS[row]
    assert sorted(codes(checked(tmp_path, text + "\n"))) == sorted(expected.split())


ORG_CEILING = ("org", "default: deny\nrules: [{deny: a.example.com}, {allow: .example.com}]\n")
SCOPES: dict[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "denied above": ((ORG_CEILING, ("team", "rules: [{allow: a.example.com}]\n")), "N108"),
    "allowed above": ((ORG_CEILING, ("team", "rules: [{allow: b.example.com}]\n")), ""),
    "partly allowed above": ((ORG_CEILING, ("team", "rules: [{allow: [a.example.com, b.example.com]}]\n")), ""),
    "outside what is allowed above": ((ORG_CEILING, ("team", "rules: [{allow: a.example.net}]\n")), "N108"),
    "on a port that is not allowed above": ((ORG_CEILING, ("team", "rules: [{allow: 'b.example.com:8443'}]\n")), "N108"),
    "denied above, after an allow of it": (
        (("org", "rules: [{allow: b.example.com}, {deny: .example.com}]\n"), ("team", "rules: [{allow: b.example.com}]\n")),
        "",
    ),
    "denied above, after an allow of another": (
        (("org", "rules: [{allow: b.example.com}, {deny: '**'}]\n"), ("team", "rules: [{allow: c.example.com}]\n")),
        "N108",
    ),
    "denied above, in report mode": (
        (("org", "mode: report\nrules: [{deny: a.example.com}]\n"), ("team", "rules: [{allow: a.example.com}]\n")),
        "W207",
    ),
    "nothing said above": ((("org", "rules: []\n"), ("team", "rules: [{allow: a.example.com}]\n")), ""),
    "a deny of one method above": (
        (("org", "rules: [{deny: a.example.com, methods: [PUT]}]\n"), ("team", "rules: [{allow: a.example.com}]\n")),
        "",
    ),
    "a deny for what a lower scope allows": (
        (("org", "rules: [{deny: a.example.com}]\n"), ("team", "rules: [{allow: .example.com}]\n")),
        "",
    ),
    "a deny after an allow, and another port below": (
        (
            ("org", "rules: [{allow: a.example.com}, {deny: a.example.com, methods: [PUT]}]\n"),
            ("team", "rules: [{allow: 'a.example.com:8443'}]\n"),
        ),
        "",
    ),
    "a condition in the tunnel of another file": (
        (("sandbox", "tls: tunnel\n"), ("sandbox", "rules: [{allow: a.example.com, methods: [GET]}]\n")),
        "E401",
    ),
    "a condition over plain HTTP beside a tunnel": (
        (("sandbox", "tls: tunnel\n"), ("sandbox", "rules: [{allow: a.example.com, methods: [GET], protocol: http}]\n")),
        "",
    ),
    "a refusal in the tunnel of another file": (
        (("sandbox", "tls: tunnel\n"), ("sandbox", "rules: [{deny: a.example.com, methods: [GET]}, {allow: .example.com}]\n")),
        "W402",
    ),
    "an inspecting file beside a tunnel": (
        (("sandbox", "tls: auto\n"), ("sandbox", "rules: [{allow: a.example.com, methods: [GET]}]\n")),
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", SCOPES)
def test_several_files_have_these_findings(row: str, tmp_path: Path) -> None:
    """What one file alone does not show."""
    files, expected = SCOPES[row]
    assert codes(checked(tmp_path, *files)) == expected.split()


def found_in(*rules: Rule) -> list[str]:
    """The codes about rules that never speak."""
    return [finding.code.value for finding in find_unspoken([make.scope(*rules, default="deny")])]


FIRST = make.rule("allow", "a.example.com", paths=("/Public/**",))
SECOND = make.rule("allow", "a.example.com", paths=("/public/a",))
SOON, LATE = NOW + timedelta(days=1), NOW + timedelta(days=2)
TERMS: tuple[tuple[str, Rule, Rule, list[str]], ...] = (
    ("case apart", FIRST, SECOND, []),
    ("case ignored", with_terms(FIRST, ignore_case=True), SECOND, ["W104"]),
    ("case ignored by the second", FIRST, with_terms(SECOND, ignore_case=True), []),
    ("case ignored by both", with_terms(FIRST, ignore_case=True), with_terms(SECOND, ignore_case=True), ["W104"]),
    ("until, and for ever", with_terms(make.rule("allow", "a.test"), until=SOON), make.rule("allow", "a.test"), []),
    ("until later", with_terms(make.rule("allow", "a.test"), until=LATE), with_terms(make.rule("allow", "a.test"), until=SOON), ["W104"]),
    ("until sooner", with_terms(make.rule("allow", "a.test"), until=SOON), with_terms(make.rule("allow", "a.test"), until=LATE), []),
    ("a query", with_terms(make.rule("allow", "a.test"), query=(("a", None),)), make.rule("allow", "a.test"), []),
    ("more of a query", with_terms(make.rule("allow", "a.test", methods="GET"), query=(("a", None),)), with_terms(make.rule("allow", "a.test", methods="GET"), query=(("a", None), ("b", "c"))), ["W104"]),
    ("a header", make.rule("allow", "a.test"), with_terms(make.rule("allow", "a.test"), headers=(("x-a", "b"),)), ["W104"]),
    ("a doubtful query", with_terms(make.rule("allow", "a.test"), query=(("a", None),)), with_terms(make.rule("deny", "a.test"), query=(("a", None),)), []),
    ("a query refused", make.rule("allow", "a.test"), with_terms(make.rule("deny", "a.test"), query=(("a", None),)), ["E101"]),
)  # fmt: skip


@pytest.mark.parametrize(("first", "second", "expected"), [row[1:] for row in TERMS], ids=[row[0] for row in TERMS])
def test_every_term_of_a_rule_narrows_it(first: Rule, second: Rule, expected: list[str]) -> None:
    """A rule speaks for another only if each of its conditions holds wherever the other's do."""
    assert found_in(first, second) == expected


def test_a_rule_with_a_term_that_is_not_known_speaks_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition of a later version must not be overlooked."""
    one, other = make.rule("allow", "a.test", http2=True), make.rule("allow", "a.test", methods="GET")
    assert found_in(one, other) == ["W104"]
    monkeypatch.setattr(lint_terms, "_OTHERS", (("http2", False),))
    assert found_in(one, other) == []


def test_the_lint_knows_every_term_of_a_rule() -> None:
    """Whoever adds one to the language decides here whether it narrows a rule."""
    assert lint_terms._OTHERS == ()


def test_a_list_may_have_exceptions() -> None:
    """An allow before a long list of denials is how an exception is written."""
    hosts = [f"h{number}.example.com" for number in range(LIST + 1)]
    exception, rest = make.rule("allow", "h1.example.com"), make.rule("allow", ".example.com")
    assert found_in(exception, make.rule("deny", *hosts), rest) == ["N106"]
    assert found_in(exception, make.rule("deny", *hosts[:LIST]), rest) == ["W105"]


ENDS = [
    (NOW, [Code.EXPIRED]),
    (NOW + timedelta(seconds=1), [Code.EXPIRES_SOON]),
    (NOW + WARNED, [Code.EXPIRES_SOON]),
    (NOW + WARNED + timedelta(seconds=1), []),
    (None, []),
]


@pytest.mark.parametrize(("until", "expected"), ENDS)
def test_rules_that_end_are_told_by_the_given_clock(until: datetime | None, expected: list[Code]) -> None:
    """At the moment itself the rule has ended; for a week before it will soon."""
    own = make.scope(with_terms(make.rule("allow", "a.test"), until=until))
    assert [finding.code for finding in find_expired(own, NOW)] == expected


def test_a_rule_that_ends_hides_none_that_stays(tmp_path: Path) -> None:
    """Whatever is shadowed today speaks tomorrow: neither the deny nor the allow below may be called needless."""
    text = "rules:\n  - {allow: a.example.com, until: 2999-01-01T00:00:00Z}\n  - {%s: a.example.com}\n"
    assert codes(checked(tmp_path, text % "deny")) == []
    assert codes(checked(tmp_path, text % "allow")) == []


def test_rules_of_presets_are_noted_where_the_file_decides_first(tmp_path: Path) -> None:
    """Nobody can remove a rule of a preset that came with egress; a rule of the file can be."""
    text = "rules: [{deny: [index.crates.io, static.crates.io]}%s]\n"
    assert codes(checked(tmp_path, "include: [crates]\n" + text % "")) == ["N109"]
    assert codes(checked(tmp_path, text % ", {allow: index.crates.io}")) == ["W102"]


def test_what_is_not_compared_is_told_once(tmp_path: Path) -> None:
    """More rules at one host than are looked at: one note, and none where all were."""
    rules = "".join(f"  - {{allow: a.example.com, paths: [/{number}]}}\n" for number in range(MOST_COMPARED + 3))
    (finding,) = checked(tmp_path, f"rules:\n{rules}").findings
    assert (finding.code, finding.line) == (Code.NOT_ALL_COMPARED, MOST_COMPARED + 4)
    assert "2, from this one on, had no look at all the others" in finding.message
    fewer = "".join(rules.splitlines(keepends=True)[: MOST_COMPARED + 1])
    assert codes(checked(tmp_path, f"rules:\n{fewer}")) == []


def test_a_file_that_everybody_can_change_is_refused(tmp_path: Path) -> None:
    """The sandbox may be one of them; whom a group holds is not known, so its right to write is a warning."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n")
    for mode, expected in ((0o644, []), (0o666, ["E001"])):
        path.chmod(mode)
        assert codes(check_sources([PolicySource(Scope.SANDBOX, path)], now=NOW)) == expected
    warning = Problem(str(path), None, "", "group 7 can change this file", "")
    assert of_warning(warning).code is Code.WRITABLE_BY_OTHERS


def test_paths_that_ignore_case_are_as_the_host_reads_them() -> None:
    """`ignore_case` ends the finding."""
    own = make.rule("deny", "api.github.com", paths=("/admin",))
    assert [finding.code for finding in find_case(make.scope(own))] == [Code.CASE_IGNORED_BY_HOST]
    assert list(find_case(make.scope(with_terms(own, ignore_case=True)))) == []


def test_the_order_is_that_of_the_files_and_their_lines(tmp_path: Path) -> None:
    """Whatever check found it."""
    text = "rules:\n  - allow: '*.example.com'\n  - allow: 'a.example.com'\n  - allow: .amazonaws.com\n"
    found = checked(tmp_path, text, "rules:\n  - allow: 52.0.0.0/8\n").findings
    assert [(finding.file[-13:], finding.line, finding.code.value) for finding in found] == [
        ("sandbox0.yaml", 3, "W205"),
        ("sandbox0.yaml", 4, "W104"),
        ("sandbox0.yaml", 5, "W203"),
        ("sandbox1.yaml", 3, "W204"),
    ]


def test_the_rule_that_speaks_is_named_by_its_file_where_that_is_another(tmp_path: Path) -> None:
    """Two files of one scope are one list."""
    (finding,) = checked(tmp_path, "rules: [{allow: a.example.com}]\n", "rules: [{deny: a.example.com}]\n").findings
    assert finding.severity is Severity.ERROR
    assert "the rule on line 2 of " in finding.message
    assert "sandbox0.yaml comes first and says allow" in finding.message


def test_what_is_refused_as_a_target_is_not_in_the_table_of_shared_hosting() -> None:
    """One statement of each fact."""
    assert not _SHARED & _PUBLIC_SUFFIXES


def test_a_tunnel_is_told_only_where_tls_may_be() -> None:
    """Raw TCP and plain HTTP have nothing to open."""
    from egress.policy import TlsMode

    for protocol, expected in (("https", [Code.CONDITION_IN_TUNNEL]), ("http", []), (None, [Code.CONDITION_IN_TUNNEL])):
        own = make.scope(make.rule("allow", "a.test", methods="GET", protocol=protocol), tls=TlsMode.TUNNEL)
        assert [finding.code for finding in find_in_tunnels(own)] == expected


def test_many_ranges_of_ports_are_too_much_to_judge_and_never_too_little() -> None:
    """A region in too many pieces counts as everything: something may pass there, so nothing is claimed."""
    ports = tuple(PortRange(number, number) for number in range(1, 1000, 2))
    allows = [make.rule("allow", "a.test", ports=((span.first, span.last),)) for span in ports]
    assert "E101" not in found_in(*allows, make.rule("deny", "a.test"))
