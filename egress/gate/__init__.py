"""The middle of a request, once for every lane: name, decide, resolve, grant, dial, change headers, deny, record.

A lane brings bytes; the gate says what may happen to them. The order is fixed, and each step can only narrow:

1. `Gate.judge_connect`   a destination by name, before any DNS
2. `Gate.admit`           a request (or a tunnel): policy, credentials, addresses, audit; gives a `Grant`
3. `Gate.dial`            spends a grant on one connection to an address that was judged
4. `Gate.ready`           the connection that will carry the request: its peer is judged again, headers are changed
5. `Exchange.finish`      the outcome, once
"""
