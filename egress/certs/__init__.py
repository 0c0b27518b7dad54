"""Our CA, the leaf certificates it signs, and the trust bundles for clients and for upstream connections."""

from egress.certs.authority import Authority
from egress.certs.bundle import BUNDLE_NAME, write_bundle, write_roots
from egress.certs.key_log import scrub_key_logging
from egress.certs.mint import Leaf

__all__ = ["BUNDLE_NAME", "Authority", "Leaf", "scrub_key_logging", "write_bundle", "write_roots"]
