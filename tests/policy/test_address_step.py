"""The address step: which addresses may be dialled under the rules that allowed."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from policy_builders import policy, request, rule, scope

from egress.policy import AddressDecision, Policy, Reason, Scope, Verdict


def ask(compiled: Policy, url: str, *addresses: str) -> AddressDecision:
    """What may be dialled for a GET of this URL, if its name resolves to these addresses."""
    asked = request(url, None if url.startswith("tcp") else "GET", None if url.startswith("tcp") else "/")
    return compiled.decide_address(asked, compiled.decide_request(asked), [ip_address(text) for text in addresses])


HOST, NAT64 = "https://a.example", "64:ff9b::10.1.2.3"
METADATA = "169.254.169.254"

# ranges of the rule, address, reason (None: it passes)
RANGES = [
    ((), "93.184.216.34", None),
    ((), "2606:4700::1", None),
    ((), "64:ff9b::8.8.8.8", None),
    ((), "10.1.2.3", "address-not-public"),
    ((), "127.0.0.1", "address-not-public"),
    ((), "::1", "address-not-public"),
    ((), METADATA, "address-not-public"),
    ((), "168.63.129.16", "address-not-public"),
    ((), "::ffff:10.1.2.3", "address-not-public"),
    ((), NAT64, "address-not-public"),
    ((), "2002:808:808::1", "address-not-public"),
    (("10.0.0.0/8",), "10.1.2.3", None),
    (("10.0.0.0/8",), "93.184.216.34", None),
    (("10.0.0.0/8",), "::ffff:10.1.2.3", None),
    (("10.0.0.0/8",), "192.168.1.1", "address-not-public"),
    (("10.0.0.0/8",), NAT64, None),
    (("64:ff9b::/96",), NAT64, "address-not-public"),
    (("10.0.0.0/8",), "2002:a01:203::1", "address-not-public"),
    (("2002::/16",), "2002:a01:203::1", "address-not-public"),
    (("2002::/16", "10.0.0.0/8"), "2002:a01:203::1", None),
    (("64:ff9b:1::/48", "10.0.0.0/8"), "64:ff9b:1::10.1.2.3", None),
    (("::1",), "::1", None),
    (("127.0.0.0/8",), "127.0.0.1", None),
    (("::ffff:10.0.0.0/104",), "10.1.2.3", None),
    (("169.254.0.0/16",), METADATA, "address-not-public"),
    ((METADATA,), METADATA, None),
    (("169.254.0.0/16",), "169.254.1.1", None),
    (("100.64.0.0/10",), "100.100.100.200", "address-not-public"),
    (("0.0.0.0/0",), "0.0.0.0", "address-not-public"),
    (("0.0.0.0",), "0.0.0.0", "address-not-public"),
    (("::/0",), "::", "address-not-public"),
    (("0.0.0.0/0",), METADATA, "address-not-public"),
]


@pytest.mark.parametrize(("ranges", "address", "reason"), RANGES)
def test_a_host_rule_reaches_public_addresses_and_the_ranges_it_names(
    ranges: tuple[str, ...], address: str, reason: str | None
) -> None:
    """Metadata services only by their own address, the unspecified address never."""
    judged = ask(policy(rule("allow", "a.example", addresses=ranges)), HOST, address)
    assert judged.decision.reason == (reason or "rule-allow")
    assert len(judged.addresses) == (1 if reason is None else 0)


def test_the_hint_names_the_range_to_add() -> None:
    """What is wrong, and what to write."""
    judged = ask(policy(rule("allow", "a.example", name="web")), HOST, "10.1.2.3")
    assert judged.decision.detail == (
        "a.example resolves to 10.1.2.3 (private); add `addresses: [10.0.0.0/8]` to the rule that allows `a.example`."
    )
    assert judged.decision.rule is not None
    assert judged.decision.rule.name == "web"
    assert judged.dropped == ((ip_address("10.1.2.3"), judged.decision.detail),)


def test_of_several_addresses_those_that_fail_are_dropped() -> None:
    """In the resolver's order, unmapped, once each."""
    judged = ask(
        policy(rule("allow", "a.example")), HOST, "10.1.2.3", "8.8.8.8", "::ffff:8.8.8.8", "::1", "2606:4700::1"
    )
    assert judged.addresses == (ip_address("8.8.8.8"), ip_address("2606:4700::1"))
    assert judged.decision.allowed
    assert [str(address) for address, _ in judged.dropped] == ["10.1.2.3", "::1"]


def test_no_address_is_a_denial() -> None:
    """The resolver's empty answer."""
    assert ask(policy(rule("allow", "a.example")), HOST).decision.reason is Reason.NAME_NOT_RESOLVED


def test_a_denied_request_has_no_address() -> None:
    """The request's own denial stays."""
    judged = ask(policy(), HOST, "8.8.8.8")
    assert (judged.addresses, judged.decision.reason) == ((), Reason.HOST_NOT_ALLOWED)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", NAT64, "2002:a01:203::1"])
@pytest.mark.parametrize("rank", [Scope.ORG, Scope.SANDBOX])
def test_an_address_denial_holds_whatever_its_place(rank: Scope, address: str) -> None:
    """After the allow, in any scope, for names and through every embedding."""
    allowing = rule("allow", "a.example", addresses=("10.0.0.0/8", "2002::/16"))
    denying = rule("deny", "10.1.0.0/16", name="guard")
    parts = [scope(allowing, denying)] if rank is Scope.SANDBOX else [scope(denying, rank=rank), scope(allowing)]
    judged = ask(policy(*parts), HOST, address)
    assert judged.decision.reason is Reason.ADDRESS_DENIED
    assert judged.decision.rule is not None
    assert judged.decision.rule.name == "guard"


# conditions of the denying rule, url, whether it holds
CONDITIONS = [
    ({"ports": ((22, 22),)}, HOST, False),
    ({"ports": ((443, 443),)}, HOST, True),
    ({"protocol": "tcp"}, HOST, False),
    ({"methods": "GET"}, HOST, True),
    ({"methods": "POST"}, HOST, False),
    ({"methods": "POST"}, "tcp://a.example:443", True),
    ({"paths": ("/x",)}, HOST, False),
]


@pytest.mark.parametrize(("conditions", "url", "holds"), CONDITIONS)
def test_the_other_conditions_of_an_address_denial_must_hold(
    conditions: dict[str, object], url: str, *, holds: bool
) -> None:
    """In doubt (a request that is never seen) they do."""
    denying = rule("deny", "8.8.8.0/24", **conditions)  # type: ignore[arg-type] -- each is of its keyword's type
    allowing = rule("allow", "a.example", ports=((443, 443),), protocol="https tcp")
    assert (ask(policy(allowing, denying), url, "8.8.8.8").decision.reason is Reason.ADDRESS_DENIED) is holds


def test_an_address_that_a_rule_asks_for_is_not_dialled() -> None:
    """No person can be asked yet; a deny is told before an ask."""
    asking = policy(rule("allow", "a.example"), rule("ask", "8.8.8.0/24"), rule("deny", "9.9.9.0/24"))
    judged = ask(asking, HOST, "8.8.8.8")
    assert (judged.decision.verdict, judged.decision.reason) == (Verdict.ASK, Reason.APPROVAL_REQUIRED)
    assert ask(asking, HOST, "8.8.8.8", "9.9.9.9").decision.reason is Reason.ADDRESS_DENIED
    assert ask(asking, HOST, "8.8.8.8", "1.1.1.1").addresses == (ip_address("1.1.1.1"),)


def test_an_allowed_range_opens_no_name() -> None:
    """That is what `addresses` is for."""
    compiled = policy(rule("allow", "a.example"), rule("allow", "10.0.0.0/8"))
    assert ask(compiled, HOST, "10.1.2.3").decision.reason is Reason.ADDRESS_NOT_PUBLIC


# targets of the allow, destination, reason
LITERALS = [
    (("10.0.0.0/8",), "10.1.2.3", "rule-allow"),
    (("127.0.0.1",), "127.0.0.1", "rule-allow"),
    (("169.254.0.0/16",), METADATA, "address-not-public"),
    ((METADATA,), METADATA, "rule-allow"),
    (("64:ff9b::/96",), "[64:ff9b::7f00:1]", "address-not-public"),
    (("64:ff9b::/96", "127.0.0.0/8"), "[64:ff9b::7f00:1]", "rule-allow"),
    (("0.0.0.0",), "0.0.0.0", "address-not-public"),
    (("93.184.216.0/24",), "93.184.216.34", "rule-allow"),
]


@pytest.mark.parametrize(("targets", "host", "reason"), LITERALS)
def test_a_destination_that_is_an_address_is_reached_if_its_range_is_named(
    targets: tuple[str, ...], host: str, reason: str
) -> None:
    """The target itself is the naming."""
    judged = ask(policy(rule("allow", *targets)), f"https://{host}", host.strip("[]"))
    assert judged.decision.reason == reason


def test_a_destination_that_is_an_address_is_dialled_as_that_address_only() -> None:
    """Whatever a resolver or a pin says of it."""
    judged = ask(policy(rule("allow", "93.184.216.0/24")), "https://93.184.216.34", "93.184.216.35")
    assert judged.decision.reason is Reason.ADDRESS_NOT_ALLOWED


def test_every_scope_that_allows_must_agree_to_the_address() -> None:
    """A range named by one scope only, or a default of allow beside it, is not enough."""
    wide = rule("allow", "a.example", addresses=("10.0.0.0/8",))
    narrow = rule("allow", "a.example")
    agreed = policy(scope(wide, rank=Scope.ORG), scope(wide))
    refused = policy(scope(narrow, rank=Scope.ORG), scope(wide))
    default = policy(scope(default="allow", rank=Scope.ORG), scope(wide))
    silent = policy(scope(rank=Scope.ORG), scope(wide))
    verdicts = [ask(each, HOST, "10.1.2.3").decision.allowed for each in (agreed, refused, default, silent)]
    assert verdicts == [True, False, False, True]
    assert ask(default, HOST, "8.8.8.8").decision.allowed


def test_a_default_of_allow_reaches_public_addresses_only() -> None:
    """A rule that names the range is needed; the detail says so."""
    judged = ask(policy(default="allow"), HOST, "10.1.2.3")
    assert judged.decision.reason is Reason.ADDRESS_NOT_PUBLIC
    assert "default of allow" in judged.decision.detail
    assert ask(policy(default="allow"), "https://127.0.0.1", "127.0.0.1").decision.reason is Reason.ADDRESS_NOT_PUBLIC


def test_the_detail_of_an_address_destination_says_what_to_name() -> None:
    """A metadata service within a range that is allowed."""
    judged = ask(policy(rule("allow", "169.254.0.0/16")), f"https://{METADATA}", METADATA)
    assert f"`allow: {METADATA}`" in judged.decision.detail
