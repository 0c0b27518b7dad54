"""Who a client is: by source, listener, name and token."""

from __future__ import annotations

import base64
import hmac
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.config import SandboxDefinition, UnixListener, hash_token
from egress.credentials import CredentialStore
from egress.gate import roster as roster_module
from egress.gate.generation import Generation
from egress.gate.roster import ClientPlace, Member, Roster
from egress.policy import Mode, Sandbox, Scope, ScopeRules, compile_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.config import ListenAddress

LISTENER, OTHER = ("127.0.0.2", 3128), ("127.0.0.1", 3128)
TOKEN = "t" * 40
POLICY = compile_policy([], digest="d", clock=lambda: 0.0)


def sandbox(
    name: str,
    *sources: str,
    listener: ListenAddress | None = None,
    token: str | None = None,
    uids: tuple[int, ...] = (),
) -> SandboxDefinition:
    """A sandbox in short."""
    hashed = None if token is None else hash_token(token.encode())
    return SandboxDefinition(Sandbox(name), tuple(map(ip_network, sources)), listener, hashed, uids=uids)


def roster(*own: SandboxDefinition) -> Roster:
    """A roster of these, with one policy for all."""
    return Roster([Member(each, POLICY) for each in own])


def basic(name: str, token: str = TOKEN) -> bytes:
    """The value of the field."""
    return b"Basic " + base64.b64encode(f"{name}:{token}".encode())


FOUR = roster(
    sandbox("wide", "10.0.0.0/8", "fd00::/8"),
    sandbox("narrow", "10.1.0.0/16", "fd00::1"),
    sandbox("door", listener=LISTENER),
    sandbox("inner", "10.1.2.0/24", listener=LISTENER),
    sandbox("key", "10.1.2.3", token=TOKEN),
)
PLACES = [
    ("10.9.9.9", OTHER, "wide"),
    ("10.1.9.9", OTHER, "narrow"),
    ("10.1.2.3", OTHER, "narrow"),
    ("::ffff:10.1.9.9", OTHER, "narrow"),
    ("fd00::2", OTHER, "wide"),
    ("fd00::1", OTHER, "narrow"),
    ("192.0.2.1", LISTENER, "door"),
    ("10.1.2.3", LISTENER, "inner"),
    # One fits by its listener, another by its source, and neither in both.
    ("10.9.9.9", LISTENER, None),
    ("192.0.2.1", OTHER, None),
    ("192.0.2.1", None, None),
    ("no address", OTHER, None),
    ("", LISTENER, "door"),
]


UNIX, DOOR = UnixListener("/run/p.sock"), UnixListener("/run/door.sock")
USERS = roster(
    sandbox("build", uids=(7, 8)),
    sandbox("inner", listener=DOOR, uids=(8,)),
    sandbox("near", "0.0.0.0/1", "::/1"),
    sandbox("key", token=TOKEN, uids=(9,)),
    sandbox("hall", listener=UnixListener("/run/hall.sock", 0o660)),
)
USERS_PLACES = [
    (UNIX, 7, "build"),
    (UNIX, 8, "build"),
    (UNIX, 9, None),
    (UNIX, 0, None),
    (UNIX, None, None),
    (DOOR, 8, "inner"),
    (DOOR, 7, "build"),
    (None, 7, "build"),
    # With the mode in the configuration, without it where a connection came to.
    (UnixListener("/run/hall.sock"), 5, "hall"),
    # One fits by its listener, another by its user, and neither in both.
    (UnixListener("/run/hall.sock"), 7, None),
]


@pytest.mark.parametrize(("listener", "uid", "name"), USERS_PLACES)
def test_a_user_is_told_by_a_unix_socket_alone(
    listener: UnixListener | None, uid: int | None, name: str | None
) -> None:
    """And is narrower than none; no range of addresses holds the text that stands for one."""
    place = ClientPlace(f"unix:uid={uid}", listener, uid)
    assert [USERS.at(place), USERS.identify(place, ())] == [name, name]


def test_no_client_of_tcp_is_a_user() -> None:
    """Whatever its address: it has no user."""
    for address in ("127.0.0.1", "10.0.0.7", "7", "unix:uid=7", ""):
        assert USERS.at(ClientPlace(address, OTHER)) in {None, "near"}
    assert roster(sandbox("root", uids=(0,))).at(ClientPlace("127.0.0.1", OTHER)) is None


def test_a_token_counts_for_its_user_alone() -> None:
    """Nobody else is even asked for it."""
    own, other = (ClientPlace(f"unix:uid={uid}", UNIX, uid) for uid in (9, 7))
    assert [USERS.identify(place, [basic("key")]) for place in (own, other)] == ["key", None]
    assert [USERS.asks(place) for place in (own, other)] == [True, False]


@pytest.mark.parametrize(("address", "listener", "name"), PLACES)
def test_the_narrowest_place_counts_and_a_doubtful_one_is_nobodys(
    address: str, listener: tuple[str, int] | None, name: str | None
) -> None:
    """Asked twice, since places are remembered."""
    place = ClientPlace(address, listener)
    assert [FOUR.at(place), FOUR.identify(place, ())] == [name, name]


def test_a_token_needs_everything_else_that_its_sandbox_states() -> None:
    """And never falls back to the place."""
    here, elsewhere = ClientPlace("10.1.2.3", OTHER), ClientPlace("10.1.9.9", OTHER)
    assert FOUR.identify(here, [basic("key")]) == "key"
    assert FOUR.identify(elsewhere, [basic("key")]) is None
    assert FOUR.identify(elsewhere, [basic("narrow")]) is None
    assert FOUR.identify(elsewhere, [basic("nobody")]) is None
    assert FOUR.identify(here, [basic("key", TOKEN[1:])]) is None
    assert (FOUR.asks(here), FOUR.asks(elsewhere)) == (True, False)


@given(st.binary(max_size=120), st.sampled_from([b"", b"Basic ", b"basic "]))
def test_whatever_is_sent_is_an_answer(value: bytes, scheme: bytes) -> None:
    """No bytes raise, and none but the right ones are somebody."""
    assert FOUR.identify(ClientPlace("10.1.2.3", OTHER), [scheme + value]) is None


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As hashes of one length, also for a name that there is not, and by nothing else before."""
    compared: list[tuple[int, int]] = []
    compare: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(roster_module.hmac, "compare_digest", counted)
    for name in ("key", "narrow", "nobody"):
        FOUR.identify(ClientPlace("10.1.2.3", OTHER), [basic(name, "x" * 40)])
    assert compared == [(32, 32)] * 3


def test_a_definition_shows_no_hash() -> None:
    """Not in its `repr`, which may stand in a log."""
    own = sandbox("key", token=TOKEN)
    assert own.token is not None
    assert own.token.hex() not in repr(own)
    assert str(own.token) not in repr(own)


def test_the_digest_tells_of_each_change() -> None:
    """Who there is, from where, with which labels, and whether a token is asked for; not in which order."""
    one, two = sandbox("one", "10.0.0.0/8"), sandbox("two", "10.1.0.0/16")
    digests = {
        roster(*own).digest
        for own in (
            (one, two),
            (one,),
            (sandbox("one", "10.0.0.0/9"), two),
            (sandbox("one", "10.0.0.0/8", token=TOKEN), two),
            (sandbox("one", "10.0.0.0/8", uids=(7,)), two),
            (SandboxDefinition(Sandbox("one", (("a", "b"),)), one.sources), two),
            (),
        )
    }
    assert len(digests) == 7
    assert roster(one, two).digest == roster(two, one).digest


def test_an_address_is_read_once_however_many_sandboxes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datagrams from ever new addresses cost a look at each sandbox, and not a reading of the address for each."""
    read: list[str] = []

    def reading(text: str) -> IPv4Address | IPv6Address:
        read.append(text)
        return ip_address(text)

    monkeypatch.setattr(roster_module, "ip_address", reading)
    many = roster(*(sandbox(f"s{number}", f"10.77.{number}.0/24") for number in range(50)))
    assert many.at(ClientPlace("10.77.49.3")) == "s49"
    assert many.at(ClientPlace("10.78.0.1")) is None
    assert read == ["10.77.49.3", "10.78.0.1"]


def test_a_generation_tells_which_scopes_report() -> None:
    """Those of a sandbox's own files, too: whoever asks how the proxy is must hear that something passes."""
    common = ScopeRules(Scope.ORG, ())
    for mode, reporting in ((Mode.REPORT, (Scope.TEAM,)), (Mode.ENFORCE, ())):
        own = compile_policy([common, ScopeRules(Scope.TEAM, (), mode=mode)], digest="d", clock=lambda: 0.0)
        members = Roster([Member(sandbox("one", "10.0.0.0/8"), POLICY), Member(sandbox("two", "10.1.0.0/16"), own)])
        generation = Generation(1, POLICY, CredentialStore({}, env={}), roster=members)
        assert generation.reporting == reporting
