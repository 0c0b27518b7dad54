"""What the lint says: codes, how serious each is, and one finding.

A code is part of the product's interface (CI configurations name it, docs/lint/CODE.md explains it): codes are added,
never renamed or reused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from egress.errors import Problem

if TYPE_CHECKING:
    from egress.policy import Rule


class Severity(StrEnum):
    """How serious a finding is. An error keeps the policy from being used; `--strict` fails on warnings too."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


_SEVERITIES = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}


class Code(StrEnum):
    """What is found. The first letter says how serious it is; the page is docs/lint/CODE.md."""

    # the file
    UNUSABLE_FILE = "E001"
    UNREADABLE_TEXT = "E002"
    WRONG_VALUE = "E003"
    WRITABLE_BY_OTHERS = "W004"
    EMPTY_LIST = "W005"
    REPEATED_NAME = "W006"
    NEEDLESS_ADDRESSES = "W007"
    DOUBTFUL_VALUE = "W009"
    # rules that never speak
    REFUSAL_NEVER_HOLDS = "E101"
    ALLOW_NEVER_HOLDS = "W102"
    DUPLICATE_RULE = "W103"
    REDUNDANT_RULE = "W104"
    TARGET_NOT_REFUSED = "W105"
    TARGET_DECIDED_ALREADY = "N106"
    NOTHING_TO_REFUSE = "N107"
    REFUSED_ABOVE = "N108"
    PRESET_DECIDED_ALREADY = "N109"
    NOT_ALL_COMPARED = "N110"
    # permissions wider than meant
    ANY_HOST = "W201"
    DEFAULT_ALLOW = "W202"
    SHARED_HOSTING = "W203"
    WIDE_RANGE = "W204"
    APEX_NOT_COVERED = "W205"
    TCP_ON_HTTP_PORT = "W206"
    REPORT_MODE = "W207"
    # secrets
    SECRET_TO_WILDCARD = "W301"  # noqa: S105 -- a code
    SECRET_NOT_BOUND = "W302"  # noqa: S105 -- a code
    SECRET_OVER_PLAIN_HTTP = "W303"  # noqa: S105 -- a code
    # conditions that do not hold as written
    CONDITION_IN_TUNNEL = "E401"
    REFUSAL_IN_TUNNEL = "W402"
    CASE_IGNORED_BY_HOST = "W403"
    CASE_STRICTER_THAN_HOST = "N404"
    EXPIRED = "W405"
    EXPIRES_SOON = "N406"
    DNS_BELOW = "W407"
    BODIES_OF_WHOLE_HOST = "W408"

    @property
    def severity(self) -> Severity:
        """How serious it is."""
        return _SEVERITIES[self.value[0]]

    @property
    def page(self) -> str:
        """The path of the code's page in the repository."""
        return f"docs/lint/{self.value}.md"


# One row a code: its title, on its page and in SARIF.
TITLES: dict[Code, str] = {
    Code.UNUSABLE_FILE: "the file cannot be used",
    Code.UNREADABLE_TEXT: "the text cannot be read",
    Code.WRONG_VALUE: "a key or value is wrong",
    Code.WRITABLE_BY_OTHERS: "others can change the file",
    Code.EMPTY_LIST: "the list of hosts is empty",
    Code.REPEATED_NAME: "two rules have one name",
    Code.NEEDLESS_ADDRESSES: "`addresses` adds nothing",
    Code.DOUBTFUL_VALUE: "a value is doubtful",
    Code.REFUSAL_NEVER_HOLDS: "a deny or ask never holds",
    Code.ALLOW_NEVER_HOLDS: "a rule is refused before it speaks",
    Code.DUPLICATE_RULE: "a rule stands twice",
    Code.REDUNDANT_RULE: "an earlier rule says it already",
    Code.TARGET_NOT_REFUSED: "a deny or ask does not hold for some of its targets",
    Code.TARGET_DECIDED_ALREADY: "a target is decided already",
    Code.NOTHING_TO_REFUSE: "a deny has nothing to refuse",
    Code.REFUSED_ABOVE: "a higher scope refuses what a rule allows",
    Code.PRESET_DECIDED_ALREADY: "a preset's rule is decided already",
    Code.NOT_ALL_COMPARED: "too many rules to compare them all",
    Code.ANY_HOST: "a rule allows every host",
    Code.DEFAULT_ALLOW: "everything is allowed by default",
    Code.SHARED_HOSTING: "a wildcard over shared hosting",
    Code.WIDE_RANGE: "a very wide range of addresses",
    Code.APEX_NOT_COVERED: "a wildcard without its apex",
    Code.TCP_ON_HTTP_PORT: "raw TCP on a port of HTTP",
    Code.REPORT_MODE: "nothing is refused, only recorded",
    Code.SECRET_TO_WILDCARD: "a secret goes to a wildcard",
    Code.SECRET_NOT_BOUND: "a secret is not bound to all hosts of a rule",
    Code.SECRET_OVER_PLAIN_HTTP: "a rule with a secret names plain HTTP",
    Code.CONDITION_IN_TUNNEL: "a condition that a tunnel hides",
    Code.REFUSAL_IN_TUNNEL: "a refusal that is wider in a tunnel",
    Code.CASE_IGNORED_BY_HOST: "a refusal of paths that another spelling passes",
    Code.CASE_STRICTER_THAN_HOST: "paths are stricter than the host",
    Code.EXPIRED: "a rule has expired",
    Code.EXPIRES_SOON: "a rule expires soon",
    Code.DNS_BELOW: "any DNS question for every name below a domain",
    Code.BODIES_OF_WHOLE_HOST: "a refusal of bodies holds for the whole host",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `line` counts from 1, None if the file as a whole is meant; `where` is the place in the file."""

    code: Code
    file: str
    line: int | None
    message: str
    hint: str = ""
    where: str = ""

    @property
    def severity(self) -> Severity:
        """How serious it is."""
        return self.code.severity

    def problem(self) -> Problem:
        """The finding in the form of every other problem of a file."""
        return Problem(self.file, self.line, self.where, f"{self.message} [{self.code.value}]", self.hint)


def of_rule(code: Code, rule: Rule, message: str, hint: str) -> Finding:
    """A finding about a whole rule."""
    return Finding(code, rule.file, rule.line, message, hint)
