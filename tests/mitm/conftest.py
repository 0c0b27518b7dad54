"""The proxy of these tests is mitmproxy's handler on a listener of its own."""

from rig.fixtures import carrier, origin, roots, start

__all__ = ["carrier", "origin", "roots", "start"]
