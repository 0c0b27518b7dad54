"""The end-to-end harness: a network namespace that holds the whole Internet, recorders, and the real proxy in it.

Ground truth is what the recorders and the packet tap saw, never what the proxy said.
"""
