"""The laws of the policy core, over generated policies and requests."""

from __future__ import annotations

import time
from dataclasses import replace

import reference_matcher
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_builders import METHODS, PATHS, addresses, requests, rules, scope_lists, scopes_of

from egress.policy import (
    Address,
    AddressClass,
    AnyTarget,
    Certainty,
    Decision,
    Host,
    Policy,
    Protocol,
    Reason,
    Request,
    Rule,
    Scope,
    ScopeRules,
    Target,
    TlsMode,
    Verdict,
    classify,
    compile_policy,
    readings,
)

SIBLINGS = reference_matcher.SIBLINGS
_RANK = {Verdict.ALLOW: 0, Verdict.ASK: 1, Verdict.DENY: 2}


def compiled(scopes: list[ScopeRules]) -> Policy:
    """The policy of these scopes."""
    return compile_policy(scopes, digest="test", clock=time.time)


def every_request(request: Request) -> list[Request]:
    """What the destination of `request` may turn out to be asked."""
    protocols = SIBLINGS[request.protocol]
    return [
        replace(request, protocol=protocol, method=method, path=path, headers=())
        for protocol in protocols
        for method in METHODS
        for path in PATHS
    ]


@settings(max_examples=600)
@given(scope_lists, requests)
def test_the_compiled_index_decides_as_a_naive_matcher(scopes: list[ScopeRules], request: Request) -> None:
    """Verdict and speaking rule equal those of the reference, but for what only the whole request shows."""
    decision = compiled(scopes).decide_request(request)
    verdict, line = reference_matcher.decide(scopes, request)
    if decision.reason is Reason.OVERRIDE_HEADER:
        assert verdict is not Verdict.DENY
        return
    spoke = next((say for say in decision.says if say.verdict is decision.verdict and say.rule), None)
    assert decision.verdict is verdict
    if line is not None:
        assert spoke is not None or decision.reason is Reason.WOULD_DENY
        assert decision.rule is not None
        assert decision.rule.line == line


_text = st.text(max_size=40)
_any_request = st.builds(
    Request,
    sandbox=_text,
    protocol=st.sampled_from(Protocol),
    host=st.builds(Host, _text, st.none() | st.ip_addresses()),
    port=st.integers(),
    method=st.none() | _text,
    path=st.none() | _text,
    query=st.none() | _text,
    headers=st.lists(st.tuples(_text, _text), max_size=3).map(tuple),
)


@settings(max_examples=150)
@given(scope_lists, _any_request | requests, st.lists(addresses, max_size=4))
def test_decide_never_raises(scopes: list[ScopeRules], request: Request, resolved: list[Address]) -> None:
    """For any request there is an answer to all three questions."""
    policy = compiled(scopes)
    named = policy.decide_name(request)
    decision = policy.decide_request(request)
    judged = policy.decide_address(request, decision, resolved)
    assert named.certainty in Certainty
    assert decision.allowed or judged.addresses == ()


@settings(max_examples=150)
@given(scope_lists, requests, rules(Verdict.DENY), st.data())
def test_adding_a_deny_never_allows_more(
    scopes: list[ScopeRules], request: Request, deny: Rule, data: st.DataObject
) -> None:
    """A deny added anywhere leaves a verdict as it is, or makes it stricter."""
    where = data.draw(st.integers(0, len(scopes) - 1))
    own = scopes[where]
    place = data.draw(st.integers(0, len(own.rules)))
    more = [*scopes]
    more[where] = replace(own, rules=(*own.rules[:place], deny, *own.rules[place:]))
    before, after = compiled(scopes), compiled(more)
    assert _RANK[after.decide_request(request).verdict] >= _RANK[before.decide_request(request).verdict]
    if before.decide_name(request).certainty is Certainty.NO:
        assert after.decide_name(request).certainty is Certainty.NO


@settings(max_examples=150)
@given(scopes_of(Scope.ORG), scopes_of(Scope.SESSION), requests)
def test_scopes_only_narrow(org: ScopeRules, session: ScopeRules, request: Request) -> None:
    """Invariant 7: whatever a lower scope says, a higher scope's deny or ask is not turned into an allow."""
    alone, both = compiled([org]), compiled([org, session])
    said = alone.decide_request(request).says[0].verdict
    if said in {Verdict.DENY, Verdict.ASK}:
        assert not both.decide_request(request).allowed
    # A scope with a default always speaks; one without may say nothing, and then only the lower one does. And a lower
    # scope may have TLS opened that the higher one leaves closed: then the higher one's rules are asked about more than
    # a tunnel, and refuse what they are about instead of everything.
    closed = [replace(rule, tls=TlsMode.TUNNEL) for rule in session.rules]
    unopened = compiled([org, replace(session, tls=TlsMode.TUNNEL, rules=tuple(closed))])
    if alone.decide_name(request).certainty is Certainty.NO and org.default is not None:
        assert unopened.decide_name(request).certainty is Certainty.NO


@settings(max_examples=150)
@given(scope_lists, requests)
def test_the_name_step_is_kept_by_the_request_step(scopes: list[ScopeRules], request: Request) -> None:
    """NO means that no request is allowed, YES that every one is, whatever it turns out to be."""
    policy = compiled(scopes)
    named = policy.decide_name(request)
    assert named.tls is not TlsMode.AUTO
    known = [policy.decide_request(each) for each in every_request(request)]
    if named.certainty is Certainty.NO:
        assert not named.decision.allowed
        assert not policy.decide_request(replace(request, method=None)).allowed
        if named.tls is not TlsMode.TUNNEL:
            assert not any(decision.allowed for decision in known)
    if named.certainty is Certainty.YES:
        assert named.decision.allowed
        if request.protocol is not Protocol.TCP:
            assert all(decision.allowed for decision in known)
    if named.certainty is Certainty.MAYBE:
        assert not named.decision.allowed


def aimed(scopes: list[ScopeRules]) -> list[ScopeRules]:
    """The same scopes, with every rule about every name, so that generated rules and requests meet."""
    everywhere = (Target(AnyTarget()),)
    return [replace(own, rules=tuple(replace(rule, targets=everywhere) for rule in own.rules)) for own in scopes]


named_requests = requests.filter(lambda request: request.host.address is None)


@settings(max_examples=400)
@given(scope_lists, named_requests)
def test_http2_is_asked_for_by_name_wherever_a_request_could(scopes: list[ScopeRules], request: Request) -> None:
    """The lane is picked before the request is known, so the name step answers for every rule that might speak."""
    policy = compiled(aimed(scopes))
    named = policy.decide_name(request)
    wanted = [decision.http2 for decision in map(policy.decide_request, every_request(request)) if decision.allowed]
    if named.tls is TlsMode.TUNNEL:
        assert not named.http2
    else:
        assert named.http2 or not any(wanted)


@settings(max_examples=400)
@given(scope_lists, named_requests)
def test_http2_says_how_and_never_whether(scopes: list[ScopeRules], request: Request) -> None:
    """Without the key every answer is the same, but for the key. A rule that names gRPC has it unsaid."""
    policy = compiled(aimed(scopes))
    without_key = [replace(own, rules=tuple(replace(rule, http2=False) for rule in own.rules)) for own in aimed(scopes)]
    plain = compiled(without_key)
    decision, without = policy.decide_request(request), plain.decide_request(request)
    grpc = any(Protocol.GRPC in (rule.protocols or ()) for rule in decision.rules)
    assert decision.http2 == (grpc or any(rule.http2 for rule in decision.rules))
    assert without.http2 == grpc
    if not any(Protocol.GRPC in (rule.protocols or ()) for own in scopes for rule in own.rules):
        assert not plain.decide_name(request).http2
    assert replace(decision, rules=(), http2=False) == replace(without, rules=(), http2=False)
    named, unnamed = policy.decide_name(request), plain.decide_name(request)
    assert (named.certainty, named.tls) == (unnamed.certainty, unnamed.tls)


@settings(max_examples=150)
@given(scope_lists, requests)
def test_a_tunnel_is_never_wider_than_its_requests(scopes: list[ScopeRules], request: Request) -> None:
    """What is allowed unseen would be allowed if it were seen, and a tunnel's name step leaves nothing open."""
    policy = compiled(scopes)
    opaque = policy.decide_request(replace(request, method=None))
    if opaque.allowed and request.protocol is not Protocol.TCP:
        assert all(policy.decide_request(each).allowed for each in every_request(request))
        assert opaque.inject == ()
    named = policy.decide_name(request)
    if named.tls is TlsMode.TUNNEL:
        assert named.certainty is (Certainty.YES if opaque.allowed else Certainty.NO)
        assert named.decision == opaque


@settings(max_examples=150)
@given(scope_lists, requests, st.lists(addresses, max_size=5))
def test_private_by_default(scopes: list[ScopeRules], request: Request, resolved: list[Address]) -> None:
    """Invariant 4: what may be dialled was resolved, is no unspecified address, and is public or named by a rule."""
    policy = compiled(scopes)
    decision = policy.decide_request(request)
    judged = policy.decide_address(request, decision, resolved)
    assert judged.decision.allowed == bool(judged.addresses)
    for address in judged.addresses:
        assert address in {readings(each)[0] for each in resolved}
        assert classify(address) is not AddressClass.UNSPECIFIED
        if not classify(address).public:
            assert any(rule.addresses or request.host.address == address for rule in decision.rules)


@given(scope_lists, requests, rules(Verdict.DENY), st.lists(addresses, max_size=5))
def test_adding_a_deny_never_reaches_more_addresses(
    scopes: list[ScopeRules], request: Request, deny: Rule, resolved: list[Address]
) -> None:
    """An address denial holds whatever its place in the file."""
    last = scopes[-1]
    more = [*scopes[:-1], replace(last, rules=(*last.rules, deny))]
    before, after = compiled(scopes), compiled(more)
    allowed = before.decide_request(request)
    wide = before.decide_address(request, allowed, resolved)
    narrow = after.decide_address(request, after.decide_request(request), resolved)
    assert set(narrow.addresses) <= set(wide.addresses)


@given(scope_lists, requests)
def test_verdict_reason_and_rule_are_set_together(scopes: list[ScopeRules], request: Request) -> None:
    """An allow has an allowing reason, a deny a denying one, and a rule's say names its rule."""
    decision: Decision = compiled(scopes).decide_request(request)
    assert decision.allowed == (decision.reason in {Reason.RULE_ALLOW, Reason.DEFAULT_ALLOW, Reason.WOULD_DENY})
    if decision.reason in {Reason.RULE_ALLOW, Reason.RULE_DENY}:
        assert decision.rule is not None
    assert decision.detail
