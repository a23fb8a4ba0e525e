#!/usr/bin/env python3
"""An adb client that answers as the environment's HOSTILE_ADB says; for private namespaces only.

Up to its last word it is honest: it runs the commands of `shell` here.
"""

import os
import re
import subprocess
import sys
import time

NOISE = b"\x1b[2J\x07 no such thing \xff\n"


def main() -> None:
    fault, words = os.environ["HOSTILE_ADB"], sys.argv[1:]
    verb = next((word for word in words if word in ("devices", "features", "get-state", "shell", "push")), "")
    out, err = sys.stdout.buffer, sys.stderr.buffer
    at, _, kind = fault.partition(": ")
    if verb == at:
        lie(kind, words[-1], out, err)
    if verb == "devices":
        out.write(b"List of devices attached\nX1 device product:p model:M device:d transport_id:1\n")
    elif verb == "features":
        out.write(b"shell_v2\n")
    elif verb == "get-state":
        out.write(b"device\n")
    elif verb == "push":
        subprocess.run(["cp", words[-2], words[-1]], check=True)
    elif verb == "shell":
        out.flush()
        os.execvp("sh", ["sh", "-c", words[-1]])


def lie(kind: str, command: str, out: object, err: object) -> None:
    write = out.write  # type: ignore[attr-defined]
    found = re.search("OFA_LATENCY_TOKEN=([0-9a-f]+)", command)
    token = found[1] if found else ""
    if kind == "silent":
        time.sleep(600)
    elif kind in ("endless", "endless stderr"):
        stream = out if kind == "endless" else err
        while True:
            stream.write(NOISE * 999)  # type: ignore[attr-defined]
    elif kind == "noise":
        write(NOISE * 50)
    elif kind.startswith("group"):
        write(f"@ofa-latency@ {token} {kind[6:]}\n@ofa-latency@ {kind[6:]}\n".encode())
        out.flush()  # type: ignore[attr-defined]
        time.sleep(600)
    elif kind == "path":
        write(f"@ofa-latency@ {token} 4000\nyes\n/\n".encode())
        err.write(b"@ofa-latency@ end\n")  # type: ignore[attr-defined]
    elif kind == "garbage":
        write(os.urandom(5000))
    sys.exit(1 if kind == "fails" else 0)


if __name__ == "__main__":
    main()
