"""Region and service of an AWS endpoint by its name, for requests that nobody signed. A name that tells neither: None.

`SERVICE.REGION.amazonaws.com`, with whatever stands before it, and the few endpoints that have no region.
"""

from __future__ import annotations

import re
from typing import Final

from egress.credentials.sigv4 import Scope

_SUFFIXES: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_LAMBDA_URLS: Final = ".on.aws"
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}")
# Endpoints whose first region is also their only one, or the one that answers for them all.
_GLOBAL: Final = {"iam": "us-east-1", "sts": "us-east-1", "s3": "us-east-1", "route53": "us-east-1"}
# Where the name that is signed is another one than that of the endpoint.
_SIGNED_AS: Final = {
    "bedrock-runtime": "bedrock",
    "bedrock-agent": "bedrock",
    "bedrock-agent-runtime": "bedrock",
    "email": "ses",
    "lambda-url": "lambda",
    "streams.dynamodb": "dynamodb",
}


def scope_of_host(host: str) -> Scope | None:
    """The scope that a request to `host` is signed for."""
    suffix = next((each for each in (*_SUFFIXES, _LAMBDA_URLS) if host.endswith(each)), None)
    if suffix is None:
        return None
    labels = host.removesuffix(suffix).split(".")
    if _REGION.fullmatch(labels[-1]) and len(labels) > 1:
        return Scope(labels[-1], _service(labels[:-1]))
    region = _GLOBAL.get(labels[-1])
    return None if region is None or suffix != _SUFFIXES[0] else Scope(region, labels[-1])


def _service(labels: list[str]) -> str:
    if labels[-1] == "dualstack" and len(labels) > 1:
        labels = labels[:-1]
    two = ".".join(labels[-2:])
    return _SIGNED_AS.get(two) or _SIGNED_AS.get(labels[-1]) or labels[-1]
