"""What holds of every parser for any bytes: it never raises, never changes its mind, and no cut changes its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.wire.client_hello import ClientHello
from egress.wire.head import NeedMore, Reject, RequestHead, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

type Outcome = RequestHead | ResponseHead | ClientHello | NeedMore | Reject
type Parse = Callable[[bytes | bytearray, NeedMore | None], Outcome]


def in_pieces(data: bytes, cuts: Sequence[int], parse: Parse) -> Outcome:
    """Parse a growing buffer, giving the hint back; stop at the first answer."""
    buffer, hint, outcome = bytearray(), None, parse(bytearray(), None)
    for end in [*sorted(cuts), len(data)]:
        buffer += data[len(buffer) : end]
        outcome = parse(buffer, hint)
        if not isinstance(outcome, NeedMore):
            break
        hint = outcome
    return outcome


def check_laws(data: bytes, cuts: Sequence[int], parse: Parse) -> Outcome:
    """A prefix never says more than the whole does, and cutting changes nothing."""
    whole = parse(data, None)
    for cut in cuts:
        prefix = parse(data[:cut], None)
        if isinstance(prefix, Reject):
            assert isinstance(whole, Reject), "a prefix is refused and the whole is not"
        elif not isinstance(prefix, NeedMore):
            assert prefix == whole, "a prefix is another message than the whole"
    outcome = in_pieces(data, cuts, parse)
    if isinstance(whole, (Reject, NeedMore)):
        assert type(outcome) is type(whole), "in pieces it is read otherwise"
    else:
        assert outcome == whole, "in pieces it is read otherwise"
    return whole


def signature(outcome: Outcome) -> str:
    """What kind of answer it is, so that one input of each kind can be kept."""
    match outcome:
        case Reject():
            return f"refused: {outcome.detail}"
        case NeedMore():
            return f"more: {outcome.in_value} {min(outcome.fields, 3)} {bool(outcome.scanned)}"
        case RequestHead():
            named = "" if outcome.host is None else "host"
            kind = f"{outcome.target.form} {outcome.version} {type(outcome.framing).__name__} {named}"
            return f"request: {kind} {min(len(outcome.fields), 4)}"
        case ResponseHead():
            kind = f"{outcome.status // 100} {outcome.version} {type(outcome.framing).__name__}"
            return f"response: {kind} {min(len(outcome.fields), 4)}"
        case ClientHello():
            kind = f"{outcome.sni is not None} {min(len(outcome.alpn), 2)} {outcome.ech} {outcome.esni}"
            return f"hello: {kind} {min(len(outcome.extensions), 4)}"
