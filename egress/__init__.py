"""Egress: a default-deny egress firewall for agent workloads."""

__version__ = "0.1.0"
