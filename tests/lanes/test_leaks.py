"""The standing leak test: values from every source, put on in every way, and then looked for everywhere.

What is searched: each answer, every file below the state and the temporary folder with the audit's database, whatever
was printed, each log line at debug level, and how the objects of an exchange print. `test_what_leaks_is_found` shows
that the search sees.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from functools import partial
from typing import TYPE_CHECKING

import pytest
from credentials.clouds.server import Reply as ServiceReply
from rig.canaries import PROMISED, echoes, found
from rig.echoing import echoing, echoing_http2, torn
from rig.faults import Fault, InjectedFaultError, break_hook, fail
from rig.modes import HOST, Mode, Site, carried
from rig.planted import CANARIES, KEY, KEY_VARIABLE, SERVICES, USES, plant, repeating
from rig.proxy import Carrier, port_of
from rig.watching import Unclean, Watch, ask

from egress.config import Limits
from egress.credentials import redact_logs
from egress.credentials.providers import vault as vault_provider
from egress.gate.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.authority import TestAuthority
    from harness.origins import Origins
    from rig.planted import Planted
    from rig.proxy import Proxy

OVER_TLS = ((Mode.TLS1,), (Mode.TLS2,))
LIMITS = Limits(audit_seconds=0.2, connect_seconds=2, resolve_seconds=1, secret_seconds=8)
HOOKS = ("requestheaders", "request", "server_connect", "egress_upstream_ready", "responseheaders", "response")


@pytest.fixture
def begin(
    start: Callable[..., Proxy],
    origin: Origins,
    roots: TestAuthority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Watch]]:
    """Start the site with everything planted, everything watched, and its log at debug level."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv(KEY_VARIABLE, KEY.text())
    vault_provider._logins.clear()
    root = logging.getLogger()
    level, log, unclean = root.level, io.StringIO(), Unclean()
    clean = logging.StreamHandler(log)
    with contextlib.ExitStack() as stack:
        planted = plant(tmp_path / "planted", roots, stack)

        def make(prepare: Callable[[Planted], object] = lambda _: None) -> Watch:
            prepare(planted)
            port = port_of(origin)
            more = {"env": planted.env, "limits": LIMITS, "prepare": partial(planted.plant_store, port)}
            proxy = start(planted.policy(port), HOST, SERVICES, **more)
            fetcher = proxy.gate.fetcher
            assert fetcher is not None
            root.setLevel(logging.DEBUG)
            root.addHandler(unclean)
            root.addHandler(clean)
            redact_logs(lambda: (*proxy.gate.secrets(), *fetcher.values()))
            watch = Watch(tmp_path, planted, Site(proxy, origin, port), log, unclean)
            _show_exchanges(watch, monkeypatch)
            return watch

        yield make
        root.removeHandler(unclean)
        root.removeHandler(clean)
        root.setLevel(level)


def _show_exchanges(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Exchange.finish

    def shown(exchange: Exchange, error: str = "") -> None:
        watch.shown.append(f"{exchange!r} {exchange.rendered!r} {exchange.generation.credentials!r}")
        finish(exchange, error)

    monkeypatch.setattr(Exchange, "finish", shown)


ECHOES = {"in single bytes": (False, 1), "whole": (False, 16_000), "in gzip": (True, 5)}
CASES = carried("mode, case", *((mode, case) for (mode,) in OVER_TLS for case in ECHOES))


@CASES
def test_secret_confinement_whatever_the_source_and_the_way(
    mode: Mode, case: str, begin: Callable[..., Watch], capfd: pytest.CaptureFixture[str]
) -> None:
    """Each value reaches the server that it is for, and nothing else holds it afterwards."""
    watch = begin()
    coded, size = ECHOES[case]
    made = echoing_http2(coded=coded, size=size) if mode is Mode.TLS2 else echoing(coded=coded, size=size)
    with watch.site.origin.behaving(made, alpn=("h2",) if mode is Mode.TLS2 else ("http/1.1",)):
        for name, use in USES.items():
            assert ask(watch, mode, use).status == 200, name
            if mode is Mode.TLS1:
                arrived = {each: CANARIES[each] for each in use.names if each != "file"}
                assert {each.split("`")[1] for each in found(watch.site.received, arrived)} == set(arrived), name
    assert any(b"[egress:env]" in answer for answer in watch.answers)
    assert watch.leaks(capfd) == []


@carried("mode", (Mode.TLS1,))
def test_secret_confinement_where_the_server_breaks_off(
    mode: Mode, begin: Callable[..., Watch], capfd: pytest.CaptureFixture[str]
) -> None:
    """In the middle of a value: the half that came stays here."""
    watch = begin()
    with watch.site.origin.behaving(torn):
        for use in USES.values():
            ask(watch, mode, use)
    assert len(watch.answers) >= len(USES)
    assert watch.leaks(capfd) == []


def _fail_at_sources(planted: Planted) -> None:
    planted.vault.answer = repeating(ServiceReply, 403)  # type: ignore[method-assign]
    planted.tokens.answer = repeating(ServiceReply, 400)  # type: ignore[method-assign]
    planted.program(f"{CANARIES['command']}\n{CANARIES['command']}", more=f"echo '{CANARIES['command']}' >&2; exit 3")


def _hang_at_sources(planted: Planted) -> None:
    planted.program("", more="sleep 20")
    planted.seconds = 1
    planted.vault.faults = [ServiceReply(302, b"", {"Location": f"https://{HOST}/?{CANARIES['vault token']}"})] * 9
    planted.tokens.given = {"access_token": CANARIES["oauth"] + "\r\nX: y", "token_type": "Bearer"}


@carried("mode, fault", *((mode, fault) for (mode,) in OVER_TLS for fault in Fault))
def test_secret_confinement_where_a_source_fails(
    mode: Mode, fault: Fault, begin: Callable[..., Watch], capfd: pytest.CaptureFixture[str]
) -> None:
    """A source that says back what it was asked with, prints to stderr, redirects or hangs: told without a value."""
    watch = begin(_fail_at_sources if fault is Fault.RAISE else _hang_at_sources)
    with watch.site.origin.behaving(echoing()):
        replies = {
            name: ask(watch, mode, USES[name])
            for name in USES
            if USES[name].names in {("command",), ("vault",), ("oauth",)}
        }
    assert {reply.status for reply in replies.values()} == {503}
    assert b"credential-unavailable" in b"".join(watch.answers)
    assert "secret `oauth`" in watch.log.getvalue()
    assert watch.leaks(capfd) == []


PARTS = ("decide_request", "render", "resolve", "own", "offer")


@carried("mode, part", *((mode, part) for (mode,) in OVER_TLS for part in PARTS))
def test_secret_confinement_where_a_part_raises(
    mode: Mode,
    part: str,
    begin: Callable[..., Watch],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With an exception whose text holds a value: not on the page, and not in the log as it is written."""
    watch = begin()
    gate = watch.site.proxy.gate
    owner = {
        "decide_request": type(gate.generation.policy),
        "render": type(gate.generation.credentials),
        "resolve": type(gate.resolver),
        "own": type(gate.own),
        "offer": watch.site.proxy.ledger,
    }[part]
    if part == "resolve":
        monkeypatch.setattr(type(gate.resolver), "known", lambda *_: None)
    monkeypatch.setattr(owner, {"own": "includes"}.get(part, part), fail)
    assert ask(watch, mode, USES["injected"]).status in {0, 500, 503}
    monkeypatch.undo()
    # Tracebacks are cleaned where they are written; our own lines never hold a value.
    assert watch.leaks(capfd) == []


@pytest.mark.parametrize("carrier", [Carrier.MITM], indirect=True)
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("hook", HOOKS)
def test_secret_confinement_where_a_hook_fails(
    hook: str, fault: Fault, begin: Callable[..., Watch], capfd: pytest.CaptureFixture[str]
) -> None:
    """Before, while and after the value is on the request."""
    watch = begin()
    struck = break_hook(watch.site.proxy.lane, hook, fault, after=True)
    with watch.site.origin.behaving(echoing(size=9)):
        ask(watch, Mode.TLS1, USES["injected"])
        ask(watch, Mode.TLS1, USES["swapped in a query"])
    assert struck
    assert watch.leaks(capfd) == []


@carried("mode", (Mode.TLS1,))
def test_what_leaks_is_found(mode: Mode, begin: Callable[..., Watch], capfd: pytest.CaptureFixture[str]) -> None:
    """The search sees: a value in a log line, a file, a row, an answer, or what is printed, in any form."""
    assert mode is Mode.TLS1
    watch = begin()
    value = CANARIES["oauth"]
    logging.getLogger("egress.gate").warning("a leaking line: %s", value[::-1])
    print("half of it:", value[len(value) // 2 :])  # noqa: T201 -- the leak
    (watch.site.proxy.folder / "left").write_text(value.encode().hex().upper())
    watch.shown.append(f"{InjectedFaultError()!r}")
    watch.answers += echoes(value)
    with watch.site.origin.behaving(echoing()):
        ask(watch, mode, USES["injected"])
    event = watch.site.proxy.ledger.decisions[0]
    object.__setattr__(event, "detail", f"key {value}")
    leaks = watch.leaks(capfd)
    for where in (
        "the log: `oauth` as reversed",
        "our own log lines: `oauth` as reversed",
        "what was printed: `oauth` as half",
        "proxy0/left: `oauth` as hex",
        "an object: `env` as plain",
        "the audit's events: `oauth` as plain",
        "proxy0/audit.db",
    ):
        assert [leak for leak in leaks if leak.startswith(where)], where
    for form in PROMISED:
        assert f"an answer: `oauth` as {form}" in leaks
