"""The resolver for sandboxes: answers that the policy allows, made anew; a client's message is never passed on.

1. `message`    bytes to one question, or to nothing; an answer to bytes
2. `tunnelling` how much a sandbox may ask
3. `ledger`     a row for each decision, repeats within a minute counted
4. `answering`  the verdict on a question, and its answer
5. `server`     datagrams and connections
"""
