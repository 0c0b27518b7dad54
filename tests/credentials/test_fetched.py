"""The store's fetched secrets: rendered as they are at the moment, bound as they were stored, variables kept to us."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from egress.config import EnvSource, SecretDefinition
from egress.config.secret_sources import AwsSource, CommandSource, OAuth2Source, StoreSource
from egress.credentials import CredentialStore, Rendered, Secret
from egress.credentials.binding import Binding
from egress.credentials.wanted import Usable, Wanted
from egress.policy import (
    Host,
    Injection,
    Protocol,
    Reason,
    Refusal,
    Request,
    SecretRef,
    Target,
    parse_host,
    parse_target,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from egress.config.secret_sources import SecretSource

CANARY = "canary-Zm9vYmFy-4711"
BEARER = (Injection("Authorization", ("Bearer ", SecretRef("github"))),)
TOKENS = OAuth2Source("https://login.test/token", "me", EnvSource("CLIENT_SECRET"), EnvSource("REFRESH_TOKEN"))
COMMAND = CommandSource(("op",))


@dataclass
class Service:
    """A service that gives what a test says, once it has been asked."""

    gives: dict[str, Usable] = field(default_factory=dict)
    has: dict[str, Usable] = field(default_factory=dict)
    asked: list[Wanted] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def known(self, wanted: Wanted) -> Usable | None:
        """What it has."""
        return self.has.get(wanted.name)

    async def fetch(self, wanted: Wanted) -> None:
        """Have what is to be given."""
        self.asked.append(wanted)
        await asyncio.sleep(0)
        if wanted.name in self.gives:
            self.has[wanted.name] = self.gives[wanted.name]

    def expect(self, wanted: Iterable[Wanted]) -> None:
        """Note it."""
        self.expected = [one.name for one in wanted]

    def values(self) -> Iterable[Secret]:
        """What it has."""
        return [usable.secret for usable in self.has.values()]


def definitions(**sources: SecretSource) -> dict[str, SecretDefinition]:
    """Secrets of these sources, bound to one host; one of our own store is bound there."""
    target = parse_target("api.test")
    assert isinstance(target, Target)
    return {
        name: SecretDefinition(name, source, () if isinstance(source, StoreSource) else (target,))
        for name, source in sources.items()
    }


def store_of(service: Service | None, env: Mapping[str, str] | None = None, **sources: SecretSource) -> CredentialStore:
    """A store with that service."""
    store = CredentialStore(definitions(**sources), env=env or {})
    if service is not None:
        store.serve(service)
    return store


def usable(text: str = CANARY, binding: Binding | None = None) -> Usable:
    """A value."""
    return Usable(Secret("github", text), binding)


def ask(name: str = "api.test", protocol: Protocol = Protocol.HTTPS, method: str = "GET", path: str = "/a") -> Request:
    """A request."""
    host = parse_host(name)
    assert isinstance(host, Host)
    return Request("box", protocol, host, 443, method, path)


def rendered(store: CredentialStore, request: Request | None = None) -> str | Reason | None:
    """The header that is set, after fetching: None if it is withheld, a reason if the request is refused."""
    request = request or ask()
    asyncio.run(store.fetch_for(("github",), request, verified_tls=True))
    found = store.render(BEARER, request, verified_tls=True)
    if isinstance(found, Refusal):
        return found.reason
    assert isinstance(found, Rendered)
    return found.headers[0][1].reveal() if found.headers else None


def test_a_value_is_fetched_and_then_rendered() -> None:
    """Once it is had, nobody is asked again; a new one is rendered at once, whatever was rendered before."""
    service = Service({"github": usable()})
    store = store_of(service, github=COMMAND)
    assert service.expected == ["github"]
    assert rendered(store) == f"Bearer {CANARY}"
    assert rendered(store) == f"Bearer {CANARY}"
    assert len(service.asked) == 1
    service.has["github"] = usable("rotated")
    assert rendered(store) == "Bearer rotated"
    service.has.clear()
    service.gives.clear()
    assert rendered(store) is Reason.CREDENTIAL_UNAVAILABLE


def test_without_anybody_who_fetches_there_is_no_value() -> None:
    """As in a process that does not judge."""
    assert rendered(store_of(None, github=COMMAND)) is Reason.CREDENTIAL_UNAVAILABLE


@pytest.mark.parametrize(
    ("request_of", "outcome"),
    [(ask("elsewhere.test"), None), (ask(protocol=Protocol.HTTP), Reason.CREDENTIAL_INSECURE)],
)
def test_what_may_not_be_sent_is_not_fetched(request_of: Request, outcome: Reason | None) -> None:
    """Another host, or no TLS: the source hears nothing of it."""
    service = Service({"github": usable()})
    assert rendered(store_of(service, github=COMMAND), request_of) is outcome
    assert service.asked == []


@pytest.mark.parametrize(
    ("request_of", "outcome"),
    [
        (ask(), f"Bearer {CANARY}"),
        (ask(method="DELETE"), None),
        (ask(path="/b"), None),
        (ask("elsewhere.test"), None),
        (ask(protocol=Protocol.HTTP), Reason.CREDENTIAL_INSECURE),
    ],
)
def test_the_binding_of_our_own_store_is_law(request_of: Request, outcome: str | Reason | None) -> None:
    """INVARIANT secret-confinement: whatever a policy says, and once the value is known, so is where it may go."""
    service = Service({"github": usable(binding=Binding(("api.test",), ("GET",), ("/a",)))})
    assert rendered(store_of(service, github=StoreSource("kept")), request_of) == outcome


@pytest.mark.parametrize("hosts", [(), ("other.test",), ("**",), ("not a host",)])
def test_a_binding_that_names_no_such_host_holds(hosts: tuple[str, ...]) -> None:
    """Also one that cannot be read, or that names none."""
    service = Service({"github": usable(binding=Binding(hosts))})
    assert rendered(store_of(service, github=StoreSource("kept"))) is None


KEYS = AwsSource("AKIAIOSFODNN7EXAMPLE", StoreSource("kept"))


@pytest.mark.parametrize(("hosts", "outcome"), [(("api.test",), f"Bearer {CANARY}"), (("elsewhere.test",), None)])
def test_the_binding_of_a_stored_leaf_is_law_for_what_is_made_of_it(
    hosts: tuple[str, ...], outcome: str | None
) -> None:
    """INVARIANT secret-confinement: the definition names `api.test`, and widens nothing by it."""
    service = Service({"github": usable(binding=Binding(hosts))})
    assert rendered(store_of(service, github=KEYS)) == outcome


def test_a_stored_secret_that_cannot_be_had_refuses() -> None:
    """Where it is bound to is not known then: the request is refused, not sent without it."""
    assert rendered(store_of(Service(), github=StoreSource("kept"))) is Reason.CREDENTIAL_UNAVAILABLE


def test_hosts_of_a_definition_narrow_the_stores_binding() -> None:
    """Both hold."""
    service = Service({"github": usable(binding=Binding(("api.test", "elsewhere.test")))})
    store = CredentialStore(
        {"github": SecretDefinition("github", StoreSource("kept"), definitions(x=COMMAND)["x"].hosts)}, env={}
    )
    store.serve(service)
    assert rendered(store) == f"Bearer {CANARY}"
    assert rendered(store, ask("elsewhere.test")) is None


# variables of sources


def leaves(store: CredentialStore) -> dict[str, str]:
    """What a fetch of the secret gets of the environment."""
    assert store.fetched is not None
    return {name: value.reveal() for name, value in store.fetched.wanted["github"].leaves.items()}


def test_variables_of_sources_are_taken_out_of_the_environment_and_kept() -> None:
    """Child processes and reloads: gone for the former, there for the latter, and in every process of ours."""
    env = {"CLIENT_SECRET": CANARY, "OTHER": "x"}
    store = store_of(None, env, github=TOKENS)
    assert store.scrub_environment(env) == ("CLIENT_SECRET",)
    assert env == {"OTHER": "x"}
    expected = {"CLIENT_SECRET": CANARY}
    assert leaves(store) == expected
    assert leaves(CredentialStore.handed_on(store.hand_on())) == expected
    dropped = store.reloaded(definitions(github=COMMAND), env=env)
    assert leaves(dropped.reloaded(definitions(github=TOKENS), env=env)) == expected


def test_a_variable_that_was_a_leaf_may_become_a_secret_and_the_other_way_round() -> None:
    """Its value was read once, whatever for."""
    env = {"CLIENT_SECRET": CANARY}
    store = store_of(None, env, github=TOKENS)
    store.scrub_environment(env)
    direct = store.reloaded(definitions(github=EnvSource("CLIENT_SECRET")), env=env)
    assert rendered(direct) == f"Bearer {CANARY}"
    assert leaves(direct.reloaded(definitions(github=TOKENS), env=env)) == {"CLIENT_SECRET": CANARY}


def test_values_of_a_store_before_are_kept_for_a_reload() -> None:
    """As the process that reads policies has them, when the generation comes to it from another."""
    env = {"CLIENT_SECRET": CANARY}
    before = store_of(None, env, github=TOKENS)
    before.scrub_environment(env)
    handed = CredentialStore.handed_on(store_of(None, {}, github=COMMAND).hand_on())
    handed.keep_values_of(before)
    assert leaves(handed.reloaded(definitions(github=TOKENS), env=env)) == {"CLIENT_SECRET": CANARY}


def test_logs_are_cleaned_of_fetched_values_and_of_what_they_are_fetched_with() -> None:
    """`known` has all of them; nothing shows one."""
    service = Service({"github": usable("fetched-value")})
    store = store_of(service, {"CLIENT_SECRET": CANARY}, github=TOKENS)
    rendered(store)
    assert {secret.reveal() for secret in store.known()} == {"fetched-value", CANARY}
    assert CANARY not in f"{store!r} {store.fetched!r} {service.asked!r}"


def test_a_store_without_fetched_secrets_has_none_to_ask_for() -> None:
    """One look at an attribute tells."""
    assert store_of(Service(), {"TOKEN": "x"}, github=EnvSource("TOKEN")).fetched is None
