"""SOCKS5: every request that is none of the policy's is refused by a code, before anybody is dialled or asked for."""

from __future__ import annotations

import struct
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from harness.world import ALLOWED4
from rig import socks

from corpus_runner.evidence import judge
from corpus_runner.plays_audit import CONTROL, shown
from corpus_runner.plays_load import bounded
from corpus_runner.policies import BY_SENTENCE, ENVIRONMENT, HOST
from corpus_runner.scripts import script
from corpus_runner.wire import observe

if TYPE_CHECKING:
    from harness.attacker import Attacker
    from harness.world import World

    from corpus_runner.cases import Case
    from corpus_runner.evidence import Evidence

NOT_ALLOWED, UNKNOWN_COMMAND = 2, 7
ELSEWHERE4 = "198.51.100.9"
# At most; each message is answered, or the connection ends.
ANSWER_SECONDS = 10.0


def socks_ask(client: Attacker, host: str | bytes, port: int, command: int = 1) -> int:
    """Greet, and ask for a destination; the code of the answer, -1 where there is none."""
    client.send(socks.greeting(0))
    assert client.receive(ANSWER_SECONDS) == b"\5\0"
    named = host.encode() if isinstance(host, str) and not _is_address(host) else host
    client.send(socks.request(ip_address(named) if isinstance(named, str) else named, port, command))
    answer = client.receive(ANSWER_SECONDS)
    return answer[1] if answer else -1


def _is_address(text: str) -> bool:
    return all(letter in "0123456789abcdef.:" for letter in text)


def _socks(world: World, case: Case, code: int, *asked: object) -> Evidence:
    """What becomes of one SOCKS request, which is answered by this code."""
    codes: list[int] = []
    proxy = world.proxy(BY_SENTENCE[case.policy], ENVIRONMENT)
    evidence = observe(world, proxy, lambda client: codes.append(socks_ask(client, *asked)))  # type: ignore[arg-type]
    assert codes == [code], f"{case.id}: answered by {codes}"
    return evidence


# What is asked for (host, port, command), and the code that answers it.
ASKED = {
    "DESTBINDIN-020": ((ELSEWHERE4, 443), NOT_ALLOWED),
    "PORTS-006": (("allowed.test", 6379), NOT_ALLOWED),
    "RAWPROTOCO-031": (("allowed.test", 443, 2), UNKNOWN_COMMAND),
    "RAWPROTOCO-032": (("evil.test", 0, 0xF0), UNKNOWN_COMMAND),
    "RAWPROTOCO-034": (("::ffff:169.254.169.254", 80), NOT_ALLOWED),
    "RAWPROTOCO-035": ((ALLOWED4, 0), NOT_ALLOWED),
    "RAWPROTOCO-036": (("evil.test", 443), NOT_ALLOWED),
}


@script(*ASKED)
def socks_request(world: World, case: Case) -> None:
    """Denied by its own code before anybody is dialled or asked for, so that there is no tunnel to talk in."""
    asked, code = ASKED[case.id]
    evidence = _socks(world, case, code, *asked)
    judge(case, evidence)
    judge(case, evidence, ["no_upstream_conn(*)", "no_dns(*)"])


@script("RAWPROTOCO-033")
def socks4(world: World, case: Case) -> None:
    """The older version, which has no names and no refusals that say anything, is none of ours."""
    request = b"\x04\x01" + struct.pack(">H", 443) + bytes([0, 0, 0, 1]) + b"me\0evil.test\0"

    def act(client: Attacker) -> None:
        client.send(request)
        client.response()

    evidence = observe(world, world.proxy(HOST, ENVIRONMENT), act)
    judge(case, evidence)
    # Request granted is 0x5a, behind a zero.
    assert not evidence.client_bytes.startswith(b"\0\x5a")


@script("HOSTCANON-047", "HOSTCANON-049", "HOSTCANON-050", "HOSTCANON-053", "HOSTCANON-054")
def socks_bytes(world: World, case: Case) -> None:
    """A name that is none is denied as it came, whatever the rules allow, and never asked for."""
    written = case.spec["hex"]
    assert isinstance(written, list)

    def act(client: Attacker) -> None:
        for part in written:
            client.send(bytes.fromhex(part))
            client.receive(ANSWER_SECONDS)

    evidence = observe(world, world.proxy(BY_SENTENCE[case.policy], ENVIRONMENT), act)
    judge(case, evidence)
    judge(case, evidence, ["no_dns(*)"])
    assert not evidence.client_bytes.startswith(b"\5\0\5\0"), "SOCKS said yes"


@script("DOS-027")
def socks_name_with_nul(world: World, case: Case) -> None:
    """It is answered at once, and nobody waits."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    with bounded(world, case, proxy):
        began = time.monotonic()
        judge(case, _socks(world, case, NOT_ALLOWED, b"allowed.test\0.evil.test", 443), ["audit_row(deny)"])
        assert time.monotonic() - began < 5


@script("AUDITLOG-005")
def newline_in_a_name(world: World, case: Case) -> None:
    """It makes no line of its own, in no form in which the audit is shown, nor in the log."""
    name = b"evil.test\nALLOW allowed.test"
    evidence = _socks(world, case, NOT_ALLOWED, name, 443)
    judge(case, evidence, ["audit_row(*)", "audit_row(deny)", "no_canary(audit)", "no_dns(*)"])
    for words in ((), ("--json",)):
        text = shown(world, evidence.proxy, "--limit", "1000", *words)
        assert not CONTROL.search(text)
        assert not [line for line in text.splitlines() if line.lstrip().startswith("ALLOW allowed.test")]
    assert "\nALLOW" not in evidence.proxy.log
