"""The values by which rules tell sandboxes apart: the condition `sandboxes`, and templates in targets and paths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.config.wording import quoted
from egress.policy import TEMPLATE, HostTarget, Target, TargetError, is_label_key, is_sandbox_word, parse_target

if TYPE_CHECKING:
    from egress.policy import Verdict

MARK: Final = "${"
# Stands for a value while a text is checked: a label that no public name has.
_SAMPLE: Final = "x0sandbox0x"
_HINT: Final = "write `${sandbox.name}` or `${sandbox.label.KEY}`"

_MORE: Final = "write more of the host after it, as in `${sandbox.name}.corp.example`"


def read_chosen(written: str) -> str | TargetError:
    """`NAME` of a sandbox, or `label=value`."""
    key, equals, value = written.partition("=")
    if not (is_label_key(key) and is_sandbox_word(value) if equals else is_sandbox_word(key)):
        message = f"{quoted(written)} is neither a sandbox's name nor `label=value`"
        return TargetError(message, "write `ci-7` or `team=data`, in lower-case letters, digits and `-`")
    return written


def sampled(written: str) -> str | TargetError:
    """The text with a sample in place of each template, or what is wrong with a template."""
    text = TEMPLATE.sub(_SAMPLE, written)
    if MARK in text or written.count(_SAMPLE):
        return TargetError(f"{quoted(written)} holds a template that is none", _HINT)
    return text


def read_target(written: str, verdict: Verdict) -> Target | TargetError:
    """A target in whose host name templates stand; they stay in its name as they are written."""
    sample = sampled(written)
    if isinstance(sample, TargetError):
        return sample
    target = parse_target(sample, verdict=verdict)
    if isinstance(target, TargetError):
        hint = _MORE if _SAMPLE in target.hint else target.hint
        return TargetError(target.message.replace(_SAMPLE, "${...}"), hint)
    what = target.what
    if not isinstance(what, HostTarget) or what.name.count(_SAMPLE) != len(TEMPLATE.findall(written)):
        return TargetError(
            f"{quoted(written)}: a template stands in host names only, beside ASCII letters", "name the host"
        )
    tail = what.name.rpartition(_SAMPLE)[2].partition(".")[2]
    # Else one value would name a host of a stranger's: whoever registers `VALUE.com`.
    if not tail or isinstance(parse_target(f"*.{tail}"), TargetError):
        message = f"{quoted(written)}: what follows the template is a name that anyone can register under"
        return TargetError(message, _MORE)
    return replace(target, what=replace(what, name=_written_name(written, what.name)))


def _written_name(written: str, name: str) -> str:
    """The sampled name with its templates again, in their order."""
    for found in TEMPLATE.finditer(written):
        name = name.replace(_SAMPLE, found[0], 1)
    return name
