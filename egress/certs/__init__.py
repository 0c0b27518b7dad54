"""Our CA, the leaf certificates it signs, and the trust bundles for clients and for upstream connections."""

from egress.certs.authority import Authority, OutsideConstraintsError
from egress.certs.bundle import BUNDLE_NAME, bundle_pem, write_bundle, write_file, write_roots
from egress.certs.constraints import NameConstraints
from egress.certs.key_log import scrub_key_logging
from egress.certs.mint import Leaf
from egress.certs.trust_store import DEFAULT_PASSWORD, full_store, own_store

__all__ = [
    "BUNDLE_NAME",
    "DEFAULT_PASSWORD",
    "Authority",
    "Leaf",
    "NameConstraints",
    "OutsideConstraintsError",
    "bundle_pem",
    "full_store",
    "own_store",
    "scrub_key_logging",
    "write_bundle",
    "write_file",
    "write_roots",
]
