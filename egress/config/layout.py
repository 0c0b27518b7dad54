"""Lays a policy file out in the one way of `egress policy fmt`, and proves that it still says the same.

1. Two spaces a level, the dash of an item indented under its key; one space inside and after what separates.
2. In a rule the keys stand in one order: name, verb, conditions, actions. All other order is the author's.
3. Comments stay with what they stand at; one blank line at most; quotes stay where plain text would be read otherwise.
4. `[...]` and `{...}` stay on one line if they fit, else each entry gets a line of its own.

INVARIANT same-meaning: what comes out reads back as the same values, in the same order where order counts, or nothing
comes out at all.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ruamel.yaml.error import YAMLError

from egress.config.document import read_document
from egress.config.layout_tree import NoLayoutError, read_tree
from egress.config.policy_model import RuleModel
from egress.errors import ConfigError, Problem

if TYPE_CHECKING:
    from egress.config.layout_tree import Entry, Node

WIDTH: Final = 120
_STEP: Final = 2
# The order of reading: what it is, where to, which requests, and what is done with them.
_ORDER: Final = (
    *("name", "when", "allow", "deny", "ask", "ports", "methods", "protocol", "paths", "ignore_case", "query"),
    *(
        "headers",
        "sandboxes",
        "until",
        "mcp",
        "graphql",
        "addresses",
        "inject",
        "swap",
        "strip_own",
        "remove",
        "rewrite",
        "scrub",
        "sign",
        "tls",
        "http2",
    ),
    *("limits", "annotate", "mode"),
)
# Text that every reader of YAML, old ones too, takes for text.
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*\Z")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class Formatted(NamedTuple):
    """The text as it was read, and laid out."""

    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether the layout was another one."""
        return self.before != self.after


def format_policy(text: str, file: str) -> Formatted:
    """Lay out a policy. Raises ConfigError where that cannot be done, or would change what the file says."""
    before, problems = read_document(text, file)
    if before is None or problems:
        raise ConfigError(problems)
    try:
        after_text = _document(read_tree(text.replace("\r\n", "\n")))
    except NoLayoutError as error:
        hint = "write it as quoted text, or leave the file as it is"
        raise ConfigError([Problem(file, error.line, "", str(error), hint)]) from error
    except (YAMLError, RecursionError):
        raise ConfigError([_refusal(file)]) from None
    after, problems = read_document(after_text, file)
    if after is None or problems or _said(after.data) != _said(before.data):
        raise ConfigError([_refusal(file)])
    return Formatted(text, after_text)


def _refusal(file: str) -> Problem:
    message = "the layout of this file cannot be changed without changing what it says"
    return Problem(file, None, "", message, "leave it as it is")


def _said(data: object) -> str:
    """What the values say: exact in kind and order, but for the order of keys in a rule."""
    rules = data.get("rules") if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(rules, list):
        ordered = [dict(sorted(rule.items())) if isinstance(rule, dict) else rule for rule in rules]
        data = data | {"rules": ordered}
    return json.dumps(data, ensure_ascii=True)


def _document(root: Node) -> str:
    for entry in root.entries:
        if root.is_mapping and entry.key is not None and entry.key.value == "rules":
            for item in entry.value.entries:
                _reorder(item.value)
    lines = _block(root, 0)
    while lines and not lines[0]:
        del lines[0]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _reorder(rule: Node) -> None:
    if not rule.is_mapping:
        return
    order = list(dict.fromkeys((*_ORDER, *RuleModel.model_fields)))
    rank = {key: place for place, key in enumerate(order)}
    rule.entries.sort(key=lambda entry: rank.get("" if entry.key is None else entry.key.value, len(rank)))


def _block(node: Node, indent: int) -> list[str]:
    """The lines of a mapping's or list's entries, then the comments at its end."""
    lines: list[str] = []
    for place, entry in enumerate(node.entries):
        lines += _comment_lines(entry.before, indent, first=place == 0)
        lines += _entry(entry, indent)
    return lines + _comment_lines(node.tail, indent, first=not lines)


def _entry(entry: Entry, indent: int) -> list[str]:
    pad = " " * indent
    head = pad + ("-" if entry.key is None else f"{_scalar(entry.key)}:")
    beside = f"  {entry.beside}" if entry.beside else ""
    node = entry.value
    if not node.is_block:
        one = f"{head} {_flow(node)}".rstrip()
        if len(one) <= WIDTH or not node.entries:
            return [one + beside]
    anchor = "" if node.anchor is None else f" &{node.anchor}"
    inner = _block(node, indent + _STEP)
    if entry.key is not None or anchor or beside:
        return [head + anchor + beside, *inner]
    # An item that is a mapping or list begins on the line of its dash; a comment above its first key, above the dash.
    first = next(place for place, line in enumerate(inner) if line.strip() and not line.lstrip().startswith("#"))
    above = [pad + line.lstrip() for line in inner[:first]]
    return [*above, pad + "- " + inner[first][indent + _STEP :], *inner[first + 1 :]]


def _flow(node: Node) -> str:
    """A value on one line."""
    if not node.is_collection:
        return _scalar(node)
    anchor = "" if node.anchor is None else f"&{node.anchor} "
    inner = ", ".join(
        _flow(entry.value) if entry.key is None else f"{_scalar(entry.key)}: {_flow(entry.value)}".rstrip()
        for entry in node.entries
    )
    return f"{anchor}{{{inner}}}" if node.is_mapping else f"{anchor}[{inner}]"


def _scalar(node: Node) -> str:
    """The text as written; without quotes that nobody needs, and on one line."""
    if "\n" in node.source:
        return json.dumps(node.value, ensure_ascii=False)
    quoted = node.source[:1] in {'"', "'"} and node.source[-1:] == node.source[:1]
    if quoted and _PLAIN.match(node.value) and node.value.lower() not in _WORDS:
        return node.value
    return node.source


def _comment_lines(texts: list[str], indent: int, *, first: bool) -> list[str]:
    """Comments at this indent, with one blank line where there were some, none before the first entry."""
    lines: list[str] = []
    for text in texts:
        if text or (lines and lines[-1]) or (not lines and not first):
            lines.append(" " * indent + text if text else "")
    return lines
