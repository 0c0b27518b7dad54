"""What rules of several scopes say together of answers that cannot be searched for their secrets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_builders import rule

from egress.policy import Injection, SecretRef, Unreadable
from egress.policy.unreadable import agreed

REFUSE, PASS = Unreadable.REFUSE, Unreadable.PASS
INJECTS = (Injection("Authorization", (SecretRef("key"),)),)
PLAIN = (Injection("X-Team", ("blue",)),)

TABLE = [
    # each rule as (what it says, what it injects) -> what they say together
    ([(None, INJECTS)], None),
    ([(PASS, INJECTS)], PASS),
    ([(REFUSE, ())], REFUSE),
    ([(PASS, INJECTS), (None, ())], PASS),
    ([(PASS, INJECTS), (None, PLAIN)], PASS),
    ([(PASS, INJECTS), (None, INJECTS)], None),
    ([(PASS, INJECTS), (PASS, INJECTS)], PASS),
    ([(PASS, INJECTS), (REFUSE, ())], REFUSE),
    ([], None),
]


@pytest.mark.parametrize(("said", "together"), TABLE)
def test_one_refusal_is_enough_and_all_who_inject_must_pass(
    said: list[tuple[Unreadable | None, tuple[Injection, ...]]], together: Unreadable | None
) -> None:
    """No scope loosens what another has put a secret on."""
    rules = [replace(rule("allow", "a.test"), scrub=word, inject=inject) for word, inject in said]
    assert agreed(rules) is together
