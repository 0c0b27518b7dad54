"""Codes for what loading a policy says: each problem an error, each warning a warning.

Problems are told apart by their place; warnings, which have no other mark, by their text. A warning of a text that is
not known here is `DOUBTFUL_VALUE`, never nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.review.lint.findings import Code, Finding

if TYPE_CHECKING:
    from egress.errors import Problem

# A part of the warning's text, and its code.
WARNINGS: Final = (
    ("`**` allows every host", Code.ANY_HOST),
    ("what no rule refuses is allowed", Code.DEFAULT_ALLOW),
    ("has the same name", Code.REPEATED_NAME),
    ("the list is empty", Code.EMPTY_LIST),
    ("can change this file", Code.WRITABLE_BY_OTHERS),
    ("can replace this file", Code.WRITABLE_BY_OTHERS),
    ("is not bound to all of this rule's hosts", Code.SECRET_NOT_BOUND),
    ("`addresses` adds nothing", Code.NEEDLESS_ADDRESSES),
    ("carries TLS unread", Code.REFUSAL_IN_TUNNEL),
    ("would refuse passes", Code.REPORT_MODE),
)


def of_problem(problem: Problem) -> Finding:
    """A problem that keeps the policy from loading."""
    if problem.line is None:
        return _finding(Code.UNUSABLE_FILE, problem)
    return _finding(Code.WRONG_VALUE if problem.where else Code.UNREADABLE_TEXT, problem)


def of_warning(warning: Problem) -> Finding:
    """Something that loading found doubtful."""
    code = next((code for text, code in WARNINGS if text in warning.message), Code.DOUBTFUL_VALUE)
    return _finding(code, warning)


def _finding(code: Code, problem: Problem) -> Finding:
    return Finding(code, problem.file, problem.line, problem.message, problem.hint, problem.where)
