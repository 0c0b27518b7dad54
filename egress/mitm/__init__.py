"""The mitm lane: mitmproxy carries what else can be inspected (HTTP/2, gRPC, WebSocket messages, users' addons).

The only room that imports mitmproxy. mitmproxy logs an exception in a hook and lets the flow go on, so nothing here
relies on a hook having run: no connection is opened without a grant, and the state before any hook is deny.
"""
