"""Secrets: their values, the hosts they are bound to, and how they get into a request."""

from egress.credentials.headers import apply_headers, settable, strip_hop_by_hop
from egress.credentials.redaction import redact_logs
from egress.credentials.rendered import Rendered
from egress.credentials.secret import Secret
from egress.credentials.store import CredentialStore

__all__ = ["CredentialStore", "Rendered", "Secret", "apply_headers", "redact_logs", "settable", "strip_hop_by_hop"]
