"""Placeholders in a request on its way up: swapped where a rule says so, and found everywhere else.

1. a swap whose secret is not bound to the request is none: the placeholder is left, and found
2. a value is put in over verified TLS only, and only where its placeholder stands
3. what a rule requires and is not there: refused
4. what is left of placeholders, of any secret, in anything that would go up: refused

INVARIANT secret-confinement: the result holds values; it is for the upstream's socket and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from egress.credentials import swap_places
from egress.credentials.headers import is_ruled, ruled_names
from egress.credentials.rendered import scrubbed_values
from egress.credentials.secret import Secret
from egress.credentials.sources import checked
from egress.credentials.swap_places import Putting, TooMuchError
from egress.errors import CredentialError
from egress.policy import OVER_TLS, Reason, Refusal, SwapPlace, canonical_path

if TYPE_CHECKING:
    from egress.credentials.rendered import Rendered
    from egress.credentials.store import CredentialStore
    from egress.policy import Decision, Request, Swap

_TOO_MUCH = Refusal(Reason.LIMIT_BODY, "the request carries the placeholder of a secret too many times")
_NOT_READ = Refusal(Reason.LIMIT_BODY, "a secret is swapped in bodies that can be held, and this one cannot")
_UNREADABLE = Refusal(Reason.BODY_UNREADABLE, "a secret is swapped in JSON and form bodies, and this is neither")
_REPEATED = Refusal(Reason.REQUEST_MALFORMED, "a header in which a secret is swapped is there more than once")
_NOT_A_HEADER = Refusal(Reason.REQUEST_MALFORMED, "a header in which a secret is swapped cannot be read")
_NOT_A_PATH = Refusal(Reason.CREDENTIAL_UNAVAILABLE, "the value of a secret cannot stand in a path")


def swapped(
    store: CredentialStore, decision: Decision, request: Request, body: bytes | None, rendered: Rendered
) -> Rendered | Refusal:
    """What else goes up in place of what came, beside what `rendered` sets, or why nothing goes.

    `body` None: it is not here; then it is looked at as it passes.
    """
    work = _Work(request, body)
    for swap in decision.swap:
        refusal = _swap(store, swap, work)
        if refusal is not None:
            return refusal
    left = _left(store, work, (*decision.remove, *rendered.withheld, *(name for name, _ in rendered.headers)))
    if left:
        return misdirected(left)
    return work.result(rendered)


def misdirected(names: tuple[str, ...]) -> Refusal:
    """The refusal of a request that carries placeholders of these secrets where they do not belong."""
    told = ", ".join(f"`{name}`" for name in names)
    return Refusal(
        Reason.PLACEHOLDER_MISDIRECTED, f"the request carries the placeholder of {told} where it must not go"
    )


def wants_body(decision: Decision) -> bool:
    """Whether a rule swaps in the body, which must then be here."""
    return any(SwapPlace.BODY in swap.places for swap in decision.swap)


# Without a repr, which would show values.
@dataclass(slots=True, repr=False)
class _Work:
    """A request while it is changed. `headers` are those that were, by the name that the rule gives them."""

    request: Request
    body: bytes | None
    path: str = ""
    query: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    values: list[Secret] = field(default_factory=list)
    changed_body: bool = False

    def __post_init__(self) -> None:
        self.path, self.query = self.request.path or "/", self.request.query

    @property
    def target(self) -> str:
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def result(self, rendered: Rendered) -> Rendered:
        if not self.names:
            return rendered
        label = "+".join(self.names)
        asked = (self.request.path or "/", self.request.query)
        headers = tuple((name, Secret(label, value)) for name, value in self.headers.items())
        set_already = ruled_names(tuple(name for name, _ in rendered.headers))
        return replace(
            rendered,
            headers=(*rendered.headers, *(each for each in headers if not is_ruled(each[0].encode(), set_already))),
            names=tuple(dict.fromkeys((*rendered.names, *self.names))),
            target=None if (self.path, self.query) == asked else Secret(label, self.target),
            body=Secret(label, (self.body or b"").decode("latin-1")) if self.changed_body else None,
            scrubbed=tuple(dict.fromkeys((*rendered.scrubbed, *scrubbed_values(self.values, headers)))),
        )


def _swap(store: CredentialStore, swap: Swap, work: _Work) -> Refusal | None:
    placeholder = store.placeholder(swap.secret)
    if placeholder is None:
        return Refusal(Reason.CREDENTIAL_UNAVAILABLE, f"the secret `{swap.secret}` has no placeholder")
    done = False
    if store.is_bound(swap.secret, work.request):
        unread = _unread(work) if SwapPlace.BODY in swap.places else None
        if unread is not None:
            return unread
        if _carries(work, store, swap.secret):
            value = store.value_for(swap.secret, work.request, verified_tls=work.request.protocol in OVER_TLS)
            if not isinstance(value, Secret):
                return value or Refusal(Reason.CREDENTIAL_UNAVAILABLE, f"the secret `{swap.secret}` may not go there")
            put = _put_in(swap, work, Putting(placeholder, value.reveal()))
            if isinstance(put, Refusal):
                return put
            done = put
            if done:
                work.values.append(value)
    if done:
        work.names.append(swap.secret)
    elif swap.required:
        return Refusal(Reason.PLACEHOLDER_REQUIRED, f"the request does not carry the placeholder of `{swap.secret}`")
    return None


def _carries(work: _Work, store: CredentialStore, secret: str) -> bool:
    """Whether its placeholder is anywhere in the request, so that its value is needed at all."""
    fields = "\n".join([value for _, value in work.request.headers]).encode("latin-1")
    whole = b"\n".join((work.target.encode("latin-1"), fields, work.body or b""))
    return store.seeker is not None and secret in store.seeker.names_in(whole)


def _unread(work: _Work) -> Refusal | None:
    """Why a body cannot be read, so that nobody knows whether the placeholder is in it."""
    if work.body is None:
        return _NOT_READ
    codings = [value for name, value in work.request.headers if name.lower() == "content-encoding"]
    if work.body and any(coding.strip().lower() != "identity" for coding in codings):
        return _UNREADABLE
    return None


def _put_in(swap: Swap, work: _Work, put: Putting) -> bool | Refusal:
    """Change every place of the swap; whether the placeholder was in one."""
    done = False
    try:
        for header in swap.headers:
            done = _in_header(work, header, put) or done
        for place in SwapPlace:
            if place in swap.places:
                done = _IN_PLACE[place](work, put) or done
    except _RefusedError as refused:
        return refused.refusal
    except TooMuchError:
        return _TOO_MUCH
    return done


def _in_header(work: _Work, header: str, put: Putting) -> bool:
    said = work.headers.get(header)
    if said is None:
        ruled = ruled_names((header,))
        values = [value for name, value in work.request.headers if is_ruled(name.encode("latin-1"), ruled)]
        # HTTP/2 may send a cookie in several fields (RFC 9113, section 8.2.3).
        if len(values) > 1 and header.lower() != "cookie":
            raise _RefusedError(_REPEATED)
        said = "; ".join(values)
    changed = swap_places.in_header(said, put)
    if changed is None:
        return False
    try:
        checked("header", changed, "header")
    except CredentialError:
        raise _RefusedError(_NOT_A_HEADER) from None
    work.headers[header] = changed
    return True


def _in_query(work: _Work, put: Putting) -> bool:
    changed = None if work.query is None else swap_places.in_query(work.query, put)
    if changed is not None:
        work.query = changed
    return changed is not None


def _in_path(work: _Work, put: Putting) -> bool:
    changed = swap_places.in_path(work.path, put)
    if changed is None:
        return False
    if isinstance(canonical_path(changed), Refusal):
        # The server must see no other segments than those that were judged.
        raise _RefusedError(_NOT_A_PATH)
    work.path = changed
    return True


def _in_body(work: _Work, put: Putting) -> bool:
    if not work.body:
        return False
    kinds = [value for name, value in work.request.headers if name.lower() == "content-type"]
    try:
        changed = swap_places.in_body(work.body, kinds[0] if len(kinds) == 1 else "", put)
    except ValueError:
        raise _RefusedError(_UNREADABLE) from None
    if changed is None:
        return False
    work.body, work.changed_body = changed, True
    return True


_IN_PLACE = {SwapPlace.QUERY: _in_query, SwapPlace.PATH: _in_path, SwapPlace.BODY: _in_body}


class _RefusedError(Exception):
    """A place that the placeholder cannot be swapped in. It never leaves this module."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason.value)
        self.refusal = refusal


def _left(store: CredentialStore, work: _Work, gone: tuple[str, ...]) -> tuple[str, ...]:
    """The secrets whose placeholders are in what would go up. `gone` are the client's headers that will not."""
    seeker = store.seeker
    if seeker is None:
        return ()
    ruled = ruled_names((*gone, *work.headers))
    fields = [f"{name}: {value}" for name, value in work.request.headers if not is_ruled(name.encode("latin-1"), ruled)]
    fields += work.headers.values()
    head = "\n".join((work.request.method or "", work.target, *fields)).encode("latin-1")
    return tuple(dict.fromkeys((*seeker.names_in(head), *seeker.names_in(work.body or b""))))
