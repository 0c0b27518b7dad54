"""Takes the values of secrets out of what an upstream sends back, as it streams. Pure.

1. an occurrence of any form (`spellings`) is replaced by what stands for the secret; the leftmost first, of those that
   begin together the longest
2. of what has come, the end is held back, one byte less than the longest form at most; not beyond a line break, or
   another byte that no form has
3. however a body is cut into pieces, the result is the same

How much is held back does not depend on what it says. If only the beginning of a value waited, then whoever can have a
server say what he likes would try one character after the other, and see by what waits which ones are right.

INVARIANT secret-confinement: forms are as secret as values; they leave this module in no message.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from egress.credentials.spellings import SHORTEST, Form, every, forms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from egress.credentials.secret import Secret

__all__ = ["SHORTEST", "Scrub", "Scrubber", "scrubber_of"]

_REMEMBERED_AT_MOST = 256
_LEADS: Final = (b"%", b"\\", b"&")
# What forms are made of: values are visible ASCII, with spaces inside.
_INSIDE: Final = bytes(range(0x20, 0x7F))
type _Search = Callable[..., int | None]
type _Found = tuple[int, int, Form]


class Scrubber:
    """What is looked for on behalf of a set of secrets. Made once for it, used by many bodies at a time."""

    __slots__ = ("_escaped", "_forms", "_inside", "_longest", "_lowered")

    def __init__(self, secrets: Sequence[Secret], shown: Sequence[str | None] = ()) -> None:
        told = [*shown, *[None] * (len(secrets) - len(shown))]
        by_value = {
            secret.reveal().encode(): (text or f"[egress:{secret.name}]").encode()
            for secret, text in zip(secrets, told, strict=True)
        }
        self._forms = tuple(form for value, shown in by_value.items() for form in forms_of(value, shown))
        self._longest = max((form.longest for form in self._forms), default=1)
        self._inside = all(not value.strip(_INSIDE) for value in by_value)
        self._escaped = tuple((form, each) for form in self._forms for each in form.escaped)
        self._lowered = tuple(literal.lower() for form in self._forms for literal in form.literals)

    def __repr__(self) -> str:
        return f"<Scrubber of {len(self._forms)} forms>"

    def whole(self, data: bytes) -> bytes:
        """All of a text that is not a stream: a field's value, a reason phrase."""
        kept, rest = self.part(data, last=True)
        return kept + rest

    def is_in_name(self, name: bytes) -> bool:
        """Whether a field's name holds a value, escaped as URLs do it too; names lose their case on the way."""
        lower = unquote_to_bytes(name).lower() if b"%" in name else name.lower()
        return any(literal in lower for literal in self._lowered)

    def part(self, data: bytes, *, last: bool, escaped: bool = True, covered: bool = False) -> tuple[bytes, bytes]:
        """What may go on of `data`, cleaned, and what of its end must wait for more; nothing if it is the `last`.

        `escaped` False: what is escaped from its first character on is not looked for. `covered`: what stands in the
        place of a value is as long as it.
        """
        found = self._find(data)
        if escaped:
            found += self._find_escaped(data)
        waiting: Sequence[int] = () if last else self._end_of(data)
        if not found:
            return (data, b"") if not waiting else (data[: waiting[0]], data[waiting[0] :])
        return _replaced(data, sorted(found, key=lambda each: (each[0], -each[1])), waiting, covered=covered)

    def untouched(self, data: memoryview, *, escaped: bool) -> int | None:
        """How much of `data` may go on as it is, where nothing is found in it; None: `part` has to look.

        Nothing is copied, so that what most bodies are made of passes at the speed of the search.
        """
        if _memmem is None or _memchr is None or data.readonly or not data.contiguous:
            return None
        size = len(data)
        start = ctypes.addressof(ctypes.c_char.from_buffer(data))
        for form in self._forms:
            if _memmem(start, size, form.anchor, len(form.anchor)) is not None:
                return None
        if escaped:
            leads = [lead for lead in _LEADS if _memchr(start, lead[0], size) is not None]
            for _, each in self._escaped:
                if each.lead in leads and _memmem(start, size, each.anchor, len(each.anchor)) is not None:
                    return None
        end = bytes(data[-self._longest :])
        waiting = self._end_of(end)
        return size - len(end) + waiting[0] if waiting else size

    def _find(self, data: bytes) -> list[_Found]:
        found: list[_Found] = []
        for form in self._forms:
            if contains(data, form.anchor):
                found += [(*span, form) for anchor in every(data, form.anchor) for span in form.around(data, anchor)]
        return found

    def _find_escaped(self, data: bytes) -> list[_Found]:
        """Values that are escaped from their first character to their last."""
        leads = [lead for lead in _LEADS if lead in data]
        if not leads:
            return []
        return [
            (at - each.offset, end, form)
            for form, each in self._escaped
            if each.lead in leads and contains(data, each.anchor)
            for at in every(data, each.anchor)
            if at >= each.offset and (end := form.match(data, at - each.offset)) >= 0
        ]

    def _end_of(self, data: bytes) -> Sequence[int]:
        """Where at the end a form could have begun, whatever the values are."""
        first = max(0, len(data) - self._longest + 1)
        end = data[first:]
        return range(first + (len(end.rstrip(_INSIDE)) if self._inside else 0), len(data))


class Scrub:
    """One body on its way through a scrubber: a step of its path.

    A piece that cannot be cleaned raises, and then every later one does: nothing of such a body goes on.
    """

    __slots__ = ("_carry", "_escaped", "_failed", "_scrubber")

    def __init__(self, scrubber: Scrubber, *, escaped: bool = True) -> None:
        self._scrubber = scrubber
        self._escaped = escaped
        self._carry = b""
        self._failed = False

    def feed(self, data: bytes | bytearray | memoryview) -> bytes | memoryview:
        """The next bytes; what comes back goes on in their place, and is valid as long as they are."""
        if self._failed or not data or not (self._carry or isinstance(data, memoryview)):
            return self._pass(data, last=False)
        whole = memoryview(bytearray(self._carry) + data) if self._carry else memoryview(data)
        self._failed = True
        passing = self._scrubber.untouched(whole, escaped=self._escaped)
        self._failed = False
        if passing is None:
            return self._pass(data, last=False)
        self._carry = bytes(whole[passing:])
        return whole[:passing]

    def end(self) -> bytes:
        """What was held back, at the end of a body that came whole."""
        return self._pass(b"", last=True)

    def _pass(self, data: bytes | bytearray | memoryview, *, last: bool) -> bytes:
        carry, self._carry = self._carry, b""
        window = carry + data if carry else bytes(data)
        if self._failed:
            raise ValueError("a piece before this one could not be cleaned")
        if not window:
            return b""
        self._failed = True
        kept, self._carry = self._scrubber.part(window, last=last, escaped=self._escaped)
        self._failed = False
        return kept


def _replaced(data: bytes, found: list[_Found], waiting: Iterable[int], *, covered: bool) -> tuple[bytes, bytes]:
    """The occurrences replaced, up to where something may have begun that is no part of one."""
    out: list[bytes] = []
    at = 0
    for start, end, form in found:
        if start < at:
            continue
        hold = next((begun for begun in waiting if begun >= at), None)
        if hold is not None and hold <= start:
            break
        out += (data[at:start], b"*" * (end - start) if covered else form.shown)
        at = end
    hold = next((begun for begun in waiting if begun >= at), len(data))
    out.append(data[at:hold])
    return b"".join(out), data[hold:]


def _c_library() -> tuple[_Search | None, _Search | None]:
    """`memmem` and `memchr` of the C library, which are several times as fast as Python's own search."""
    try:
        # PyDLL: a search is too short to let go of the interpreter for it.
        library = ctypes.PyDLL(None)
        memmem, memchr = library.memmem, library.memchr
    except (OSError, AttributeError):
        return None, None
    memmem.restype = memchr.restype = ctypes.c_void_p
    memmem.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    return memmem, memchr


_memmem, _memchr = _c_library()


def contains(data: bytes, part: bytes) -> bool:
    """Whether `part` is in `data`."""
    return part in data if _memmem is None else _memmem(data, len(data), part, len(part)) is not None


# By the secrets' names and what stands for them, so that a new value takes the place of the old one.
_known: dict[tuple[tuple[str, str | None], ...], tuple[tuple[Secret, ...], Scrubber]] = {}


def scrubber_of(secrets: tuple[Secret, ...], placeholder: Callable[[str], str | None] = lambda _: None) -> Scrubber:
    """The scrubber for these values; `placeholder` gives what stands for a secret, None for a text of our own."""
    shown = [placeholder(secret.name) for secret in secrets]
    names = tuple([(secret.name, text) for secret, text in zip(secrets, shown, strict=True)])
    known = _known.get(names)
    if known is not None and (known[0] is secrets or known[0] == secrets):
        return known[1]
    scrubber = Scrubber(secrets, shown)
    if len(_known) >= _REMEMBERED_AT_MOST:
        _known.clear()
    _known[names] = secrets, scrubber
    return scrubber
