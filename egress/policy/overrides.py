"""Headers that make a server take a request for another one than its method, path and host say."""

from __future__ import annotations

from typing import Final

from egress.policy.parameters import loose_header

# Headers by which frameworks let a request become another one than its method, path or host say, as `loose_header`
# spells them.
_OVERRIDE_HEADERS: Final = frozenset(
    {
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-method",
        "x-original-method",
        "x-forwarded-method",
        "x-original-url",
        "x-original-uri",
        "x-original-path",
        "x-rewrite-url",
        "x-rewrite-uri",
        "x-override-url",
        "x-forwarded-uri",
        "x-forwarded-url",
        "x-forwarded-path",
        "x-forwarded-prefix",
        "x-envoy-original-path",
        "x-envoy-original-method",
        "x-host",
        "x-original-host",
        "x-forwarded-host",
        "x-forwarded-server",
        "x-http-host-override",
        "x-http-path-override",
    }
)

# Names that were looked at and ask for nothing: a client repeats its names with each request.
_HARMLESS: Final[set[str]] = set()
_REMEMBERED_AT_MOST: Final = 4_096
_REMEMBERED_LENGTH: Final = 64


def asks_for_another(headers: tuple[tuple[str, str], ...]) -> bool:
    """Whether any header, in any spelling, asks for another method, path or host than the request states."""
    names = [name for name, _ in headers]
    if _HARMLESS.issuperset(names):
        return False
    for name in names:
        if loose_header(name.strip()) in _OVERRIDE_HEADERS:
            return True
        if len(name) <= _REMEMBERED_LENGTH:
            if len(_HARMLESS) >= _REMEMBERED_AT_MOST:
                _HARMLESS.clear()
            _HARMLESS.add(name)
    return False
