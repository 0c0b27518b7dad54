"""From bytes to values: request and response heads, chunked bodies, TLS ClientHellos.

Pure: no I/O, no clock, the standard library only. Every parser is total and answers with a value, `NeedMore` or
`Reject`. It imports nothing of the policy, which reads names, addresses and paths in the values found here.
"""
