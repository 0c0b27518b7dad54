"""Providers: one for each source whose value has to be fetched. Each is a module with one function, `fetch`.

A provider fetches once, now, and keeps nothing: when to fetch, how long to wait and what to keep is the broker's. What
goes wrong is a `CredentialError` that names no value and quotes nothing of an answer.
"""

from egress.credentials.providers.interface import Answer, Fetched, Means, Provider

__all__ = ["Answer", "Fetched", "Means", "Provider"]
