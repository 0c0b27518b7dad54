"""Paths of rules here, and paths of an Azure sandbox egress policy.

There a path is a prefix of whole segments, and `*` stands for one segment: `/v1` is `/v1` and all below, `/v1/*` all
below `/v1`. Here a path is whole, `*` is one segment, and a closing `/**` is all below.
"""

from __future__ import annotations

from dataclasses import dataclass

from egress.policy import PathPattern, compile_path


@dataclass(frozen=True, slots=True)
class AzurePath:
    """A path there. `guard`: what below it must be refused first, because the rule here ends at the path itself."""

    path: str | None
    guard: str | None = None


def from_azure(path: str) -> tuple[str, ...] | None:
    """The patterns here for a path there; `()` for every path, None where it cannot be read in one way."""
    if path in {"", "/", "*", "/*", "/**"}:
        return ()
    path = path.removesuffix("/")
    if path.endswith(("/*", "/**")):
        stem = path.rpartition("/")[0]
        found: tuple[str, ...] = (f"{stem}/**",)
    else:
        found = (path, f"{path}/**")
    return (
        found if all(isinstance(compile_path(text), PathPattern) for text in found) and "**" not in path[:-2] else None
    )


def to_azure(patterns: tuple[str, ...] | None) -> tuple[list[AzurePath], list[str]]:
    """The paths there for patterns here, the longer ones first, and the patterns that cannot be said."""
    if patterns is None or "/**" in patterns:
        return [AzurePath(None)], []
    lost = [pattern for pattern in patterns if "**" in pattern.removesuffix("/**") or _has_empty_end(pattern)]
    kept = [pattern for pattern in dict.fromkeys(patterns) if pattern not in lost]
    found = [_one(pattern, kept) for pattern in kept]
    known = [path for path in found if path is not None]
    return sorted(known, key=lambda path: -len((path.path or "").split("/"))), lost


def _one(pattern: str, among: list[str]) -> AzurePath | None:
    if pattern.endswith("/**"):
        stem = pattern.removesuffix("/**")
        # `/v1` and `/v1/**` together are what the prefix `/v1` is.
        return None if stem in among else AzurePath(f"{stem}/*")
    if f"{pattern}/**" in among:
        return AzurePath(pattern)
    return AzurePath(pattern, f"{pattern.removesuffix('/')}/*")


def _has_empty_end(pattern: str) -> bool:
    return len(pattern) > 1 and pattern.endswith("/")
