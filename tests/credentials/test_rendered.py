"""Which values are looked for in the answer to a request."""

from __future__ import annotations

import base64

from egress.config import EnvSource, SecretDefinition
from egress.credentials import CredentialStore, Rendered, Secret
from egress.credentials.rendered import scrubbed_values
from egress.policy import Host, Injection, Protocol, Request, SecretRef, Target, parse_host, parse_target

TOKEN = Secret("key", "a-long-enough-value")


def basic(text: str) -> tuple[str, Secret]:
    """A header in the scheme Basic."""
    return "Authorization", Secret("key", f"Basic {base64.b64encode(text.encode()).decode()}")


def test_each_secret_is_looked_for_once() -> None:
    """However many headers it is in."""
    headers = [("Authorization", Secret("key", "Bearer a-long-enough-value")), ("X-Key", TOKEN)]
    assert scrubbed_values([TOKEN, TOKEN], headers) == (TOKEN,)


def test_a_short_value_is_left_out() -> None:
    """It could not be told from harmless text, and then nothing is asked of the answer."""
    assert scrubbed_values([Secret("key", "short")], []) == ()


def test_what_basic_decodes_to_is_looked_for() -> None:
    """`user:password`, and the password where it is long enough."""
    found = scrubbed_values([TOKEN], [basic("somebody:a-long-password")])
    assert [each.reveal() for each in found[1:]] == ["somebody:a-long-password", "a-long-password"]
    found = scrubbed_values([TOKEN], [basic("somebody:short")])
    assert [each.reveal() for each in found[1:]] == ["somebody:short"]


def test_what_is_not_base64_is_no_reason_to_fail() -> None:
    """A rule may write anything behind the scheme."""
    for text in ("Basic", "Basic ä", "Basic !!", "Basic /w=="):
        assert scrubbed_values([TOKEN], [("Authorization", Secret("key", text))])[0] == TOKEN


def test_a_store_names_what_is_looked_for_and_warns_of_what_is_not() -> None:
    """The values that went out, not those that were withheld; a short one is told of at the start."""
    target, host = parse_target("api.example.com"), parse_host("api.example.com")
    assert isinstance(target, Target)
    assert isinstance(host, Host)
    definitions = {name: SecretDefinition(name, EnvSource(name.upper()), (target,)) for name in ("long", "short")}
    store = CredentialStore(definitions, env={"LONG": "a-long-enough-value", "SHORT": "abc"})
    injections = tuple(Injection(f"X-{name}", (SecretRef(name),)) for name in definitions)
    rendered = store.render(injections, Request("box", Protocol.HTTPS, host, 443, "GET", "/"), verified_tls=True)
    assert isinstance(rendered, Rendered)
    assert [each.name for each in rendered.scrubbed] == ["long"]
    (warning,) = store.warnings()
    assert "`short`" in warning.message
    assert "abc" not in str(warning)
