"""The roads out that a user of a machine may try; the program that tries them becomes that user itself."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rig.netns import Machine

# `tcp HOST PORT`, `udp HOST PORT`, `raw HOST PROTOCOL`.
type Road = tuple[str, str, int]
# Each line asks on one road; the answer is what came of it.
ASKING = """
import errno, json, os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
found = []
for road, host, number in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kinds = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "raw": (socket.SOCK_RAW, number)}
    try:
        with socket.socket(family, *kinds[road]) as sock:
            sock.settimeout(3)
            sock.connect((host, 0 if road == "raw" else number))
            if road != "tcp":
                sock.send(bytes(32))
            found.append(sock.recv(2048).decode(errors="replace"))
    except TimeoutError:
        found.append("silence")
    except OSError as error:
        found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""


def ask_as(machine: Machine, uid: int, *roads: Road) -> list[str]:
    """What came of each road: an answer, an error's name, or `silence`."""
    done = machine.run([sys.executable, "-c", ASKING, json.dumps(roads), str(uid)])
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found
