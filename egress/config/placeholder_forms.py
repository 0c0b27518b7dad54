"""What credentials of well-known services look like: their beginnings, lengths and alphabets. No value, no secret.

A client may refuse a key that does not look like one. `form_of` picks by the variable that the client reads, then by
the hosts that the secret is bound to; what nothing is known of becomes a plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Shape(StrEnum):
    """What stands after the beginning."""

    # Letters and digits.
    PLAIN = "plain"
    # Letters and digits in three parts with dots between, each base64url: a JSON Web Token (RFC 7519).
    JWT = "jwt"


@dataclass(frozen=True, slots=True)
class Form:
    """`prefix`, then `length` characters; at `gap` of them stands `_`, where that is not 0. `suffix` ends it."""

    prefix: str
    length: int
    gap: int = 0
    suffix: str = ""
    shape: Shape = Shape.PLAIN


PLAIN_FORM: Final = Form("", 40)

FORMS: Final[Mapping[str, Form]] = {
    "sk-ant": Form("sk-ant-api03-", 93, suffix="AA"),
    "sk-proj": Form("sk-proj-", 48),
    "sk-or": Form("sk-or-v1-", 64),
    "sk": Form("sk-", 48),
    "ghp": Form("ghp_", 36),
    "gho": Form("gho_", 36),
    "ghs": Form("ghs_", 36),
    "github_pat": Form("github_pat_", 82, gap=22),
    "glpat": Form("glpat-", 20),
    "xoxb": Form("xoxb-", 50),
    "AIza": Form("AIza", 35),
    "hf": Form("hf_", 34),
    "npm": Form("npm_", 36),
    "gsk": Form("gsk_", 52),
    "jwt": Form("", 43, shape=Shape.JWT),
    "plain": PLAIN_FORM,
}

_BY_VARIABLE: Final = {
    "ANTHROPIC_API_KEY": "sk-ant",
    "ANTHROPIC_AUTH_TOKEN": "sk-ant",
    "OPENAI_API_KEY": "sk-proj",
    "OPENROUTER_API_KEY": "sk-or",
    "DEEPSEEK_API_KEY": "sk",
    "GITHUB_TOKEN": "ghp",
    "GH_TOKEN": "ghp",
    "GITLAB_TOKEN": "glpat",
    "GITLAB_PRIVATE_TOKEN": "glpat",
    "SLACK_BOT_TOKEN": "xoxb",
    "GEMINI_API_KEY": "AIza",
    "GOOGLE_API_KEY": "AIza",
    "HF_TOKEN": "hf",
    "HUGGING_FACE_HUB_TOKEN": "hf",
    "NPM_TOKEN": "npm",
    "NODE_AUTH_TOKEN": "npm",
    "GROQ_API_KEY": "gsk",
}
_BY_HOST: Final = {
    "api.anthropic.com": "sk-ant",
    "api.openai.com": "sk-proj",
    "openrouter.ai": "sk-or",
    "api.deepseek.com": "sk",
    "github.com": "ghp",
    "api.github.com": "ghp",
    "gitlab.com": "glpat",
    "slack.com": "xoxb",
    "generativelanguage.googleapis.com": "AIza",
    "huggingface.co": "hf",
    "api.groq.com": "gsk",
}


def form_of(like: str | None, variable: str | None, hosts: Iterable[str]) -> Form:
    """The form that was asked for, else that of the variable, else that of the first host of which one is known."""
    name = like or _BY_VARIABLE.get(variable or "")
    if name is None:
        name = next((_BY_HOST[host] for host in hosts if host in _BY_HOST), None)
    return PLAIN_FORM if name is None else FORMS[name]
