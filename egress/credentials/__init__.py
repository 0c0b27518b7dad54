"""Secrets: their values, the hosts they are bound to, and how they get into a request."""

from egress.credentials.dumps import forbid_dumps
from egress.credentials.headers import apply_headers, settable, strip_hop_by_hop
from egress.credentials.identity_token import identity_token
from egress.credentials.placeholder_key import placeholder_key
from egress.credentials.placeholders import needs_key, placeholder_of, placeholders_of
from egress.credentials.redaction import redact_logs
from egress.credentials.rendered import Rendered
from egress.credentials.secret import Secret
from egress.credentials.seeking import BodyLook
from egress.credentials.store import CredentialStore
from egress.credentials.swapping import misdirected, swapped, wants_body

__all__ = [
    "BodyLook",
    "CredentialStore",
    "Rendered",
    "Secret",
    "apply_headers",
    "forbid_dumps",
    "identity_token",
    "misdirected",
    "needs_key",
    "placeholder_key",
    "placeholder_of",
    "placeholders_of",
    "redact_logs",
    "settable",
    "strip_hop_by_hop",
    "swapped",
    "wants_body",
]
