"""The hosts of apt's sources: `/etc/apt/sources.list`, and `*.list` and `*.sources` beside it (sources.list(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.config.machine import Looking, Machine

_DISTRIBUTIONS = frozenset({"debian", "ubuntu"})
_ONE_LINE = re.compile(r"\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)")
# `mirror+https://` names a list of mirrors, `tor+https://` another way to the same host.
_TRANSPORT = re.compile(r"(?:mirror|tor)\+(?=https?://)")


def find_apt_hosts(machine: Machine, found: Looking, distribution: str) -> str:
    """Gather the hosts of apt's sources into `found`, if apt here is `distribution`'s. Returns why there are none."""
    theirs = _distributions(found.text(machine.root / "etc" / "os-release") or "")
    if distribution not in theirs:
        return f"this machine is not {distribution}'s, so apt's sources here do not tell"
    folder = machine.root / "etc" / "apt"
    files = [folder / "sources.list"]
    parts = folder / "sources.list.d"
    if parts.is_dir():
        files += sorted(path for path in parts.iterdir() if path.suffix in {".list", ".sources"})
    for path in files:
        text = found.text(path)
        if text is not None:
            addresses = _stanzas(text) if path.suffix == ".sources" else _lines(text)
            found.add((_TRANSPORT.sub("", address) for address in addresses), str(path))
    return "apt's sources here name no host"


def _distributions(text: str) -> set[str]:
    """What `/etc/os-release` says this is. Ubuntu is like Debian, but its packages are not Debian's."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    own = fields.get("ID", "").strip().strip("\"'")
    if own in _DISTRIBUTIONS:
        return {own}
    return {own, *fields.get("ID_LIKE", "").strip().strip("\"'").split()}


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        entry = _ONE_LINE.match(line)
        if entry is not None:
            yield entry[1]


def _stanzas(text: str) -> Iterator[str]:
    """The `URIs` of each stanza in the deb822 form that is not switched off."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in {" ", "\t"} and name:
                fields[name] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() not in {"no", "false", "off", "0", "without", "disable"}:
            yield from fields.get("uris", "").split()
