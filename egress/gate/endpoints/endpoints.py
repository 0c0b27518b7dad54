"""Which requests are asked of an identity endpoint, and who answers them.

INVARIANT no-identity-inside: whatever is asked of a metadata host, in whatever way, is answered or refused here, once
the endpoints are configured. Nothing of it is ever passed on, whatever a policy allows.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from egress.gate.endpoints.answers import Answer, Question, as_json
from egress.gate.endpoints.aws import ask_aws
from egress.gate.endpoints.azure import ask_azure
from egress.gate.endpoints.google import ask_google
from egress.policy import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.config import IdentityConfig
    from egress.policy import Host, Request

METADATA_HOSTS: Final = frozenset({"169.254.169.254", "metadata.google.internal", "metadata"})
# By whatever name they are reached; the second is that of AWS, the third that of Google.
METADATA_ADDRESSES: Final = frozenset(map(ip_address, ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254")))


class Endpoints:
    """The endpoints of one configuration. `token`: what clients show that read their environment.

    `places`: hosts and ports, besides the metadata hosts, at which they are.
    """

    def __init__(self, config: IdentityConfig, token: str) -> None:
        self._config = config
        self._token = token
        self.places = {config.listen, ("localhost", config.listen[1])} if config.listen[1] else set()

    def at(self, port: int) -> None:
        """The port that was really bound."""
        self.places |= {(self._config.listen[0], port), ("localhost", port)}

    def owns(self, host: Host, port: int) -> bool:
        """Whether this destination is one of the endpoints."""
        return host.text in METADATA_HOSTS or (host.text, port) in self.places

    def answer(self, request: Request, now: float, placeholder_of: Callable[[str], str | None]) -> Answer:
        """The answer to a request for one of them. Raises LookupError for a secret without a placeholder."""
        if request.protocol is not Protocol.HTTP or request.method != "GET":
            return _refused(405, "an identity endpoint is asked by GET, in plain HTTP")

        def placeholder(secret: str) -> str:
            found = placeholder_of(secret)
            if found is None:
                raise LookupError("a secret of an identity endpoint has no placeholder")
            return found

        question = Question(request, now, self._token, placeholder)
        config = self._config
        answer = ask_azure(question, config.azure) if config.azure else None
        if answer is None and config.aws is not None:
            answer = ask_aws(question, config.aws)
        if answer is None and config.google is not None:
            answer = ask_google(question, config.google)
        return answer or _refused(404, "no identity endpoint that is configured has this path")


def _refused(status: int, message: str) -> Answer:
    return Answer(status, as_json({"error": "not_found", "error_description": message}), f"{message.capitalize()}.")
