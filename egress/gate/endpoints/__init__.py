"""The identity endpoints of clouds, which the proxy answers itself, with placeholders."""

from egress.gate.endpoints.answers import Answer
from egress.gate.endpoints.aws import KEYS_PATH
from egress.gate.endpoints.azure import SERVICE_PATH
from egress.gate.endpoints.endpoints import METADATA_ADDRESSES, METADATA_HOSTS, Endpoints

__all__ = ["KEYS_PATH", "METADATA_ADDRESSES", "METADATA_HOSTS", "SERVICE_PATH", "Answer", "Endpoints"]
