"""What is wrong with a rule's `swap`, beyond its single values.

1. a placeholder becomes the secret where the rule says so and nowhere else, so each `swap` names a place
2. outside headers, what a client posts may be seen by others: only a rule that names its paths swaps there
3. a header that the rule sets, or takes away, has no placeholder left to swap
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.config.wording import quoted
from egress.policy import SwapPlace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from egress.config.credential_model import SwapModel
    from egress.config.policy_model import RuleModel
    from egress.config.secrets_model import SecretDefinition
    from egress.config.wording import Place

    type Wrong = tuple[Place, str, str]

_ADD_PATHS = "add `paths` that take a credential there, or swap it in `headers`"


def swap_problems(model: RuleModel, secrets: Mapping[str, SecretDefinition | None]) -> Iterator[tuple[int, Wrong]]:
    """Each with the index of its swap: the key, the message, the hint."""
    seen: set[str] = set()
    for index, swap in enumerate(model.swap or ()):
        yield from ((index, problem) for problem in (*_of_places(swap, model), *_of_headers(swap, model)))
        definition = secrets.get(swap.secret)
        if definition is not None and definition.placeholder is None:
            message = f"the secret {quoted(swap.secret)} has no placeholder, so there is nothing to swap"
            yield index, (("secret",), message, "add `placeholder: {env: VARIABLE}` to it, or write `inject`")
        if swap.secret in seen:
            message = f"the secret {quoted(swap.secret)} is swapped here already"
            yield index, (("secret",), message, "write one `swap` with all its places")
        seen.add(swap.secret)


def _of_places(swap: SwapModel, model: RuleModel) -> Iterator[Wrong]:
    if not swap.headers and not swap.places:
        yield (), "this names no place, so nothing is swapped", "write `headers: [x-api-key]`"
    if swap.places and model.paths is None:
        places = ", ".join(quoted(place.value) for place in swap.places)
        yield ("in",), f"a secret in {places} goes only to paths that the rule names, and it names none", _ADD_PATHS
    bodiless = model.methods is not None and {"GET", "HEAD"}.issuperset(model.methods)
    if SwapPlace.BODY in (swap.places or ()) and bodiless:
        yield ("in",), "`body`: none of `methods` has one", "name `POST` in `methods`, or another place"


def _of_headers(swap: SwapModel, model: RuleModel) -> Iterator[Wrong]:
    injected = {header.lower() for header in model.inject or ()}
    taken = {header.lower() for header in model.remove or ()}
    seen: set[str] = set()
    for index, header in enumerate(swap.headers or ()):
        lowered = header.lower()
        if lowered in injected:
            message = f"{quoted(header)} is injected, which replaces what the client sent"
            yield ("headers", index), message, "keep one of them"
        elif lowered in taken:
            yield ("headers", index), f"{quoted(header)} stands in `remove` too", "remove it from `remove`"
        elif lowered in seen:
            yield ("headers", index), "this header stands here twice", "keep one of them"
        seen.add(lowered)
