"""What several rules that allow one request together say of an answer that cannot be searched for their secrets. Pure.

1. refuse, if any says so
2. pass, if one says so, and so does every rule that puts a secret on the request
3. else nothing: then the answer's declared type decides
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.policy.vocabulary import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.policy.values import Rule


def agreed(rules: Iterable[Rule]) -> Unreadable | None:
    """What the rules say together."""
    said = {rule.scrub for rule in rules if rule.scrub is not None or any(each.secrets for each in rule.inject)}
    if Unreadable.REFUSE in said:
        return Unreadable.REFUSE
    return Unreadable.PASS if said == {Unreadable.PASS} else None
