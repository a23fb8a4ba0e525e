"""An agent that answers as a seed says: honestly, with damaged replies, too much, too little, or not at all.

Run as `python hostile_agent.py SEED`; it needs nothing but the standard library.
"""

import json
import os
import random
import sys
import time
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**62, 2**64, 10**400, 1.5, 1e308, float("nan"), float("inf"), "", "1", "=1+1", "-x",
    "\x1b[2J\x07", "x:x:", "a\nb", "\u202e", "\udcff", "x" * 100_000, [], {}, [[1]], [1] * 5000, {"a": {"b": []}},
)  # fmt: skip


def honest(request: dict[str, Any]) -> dict[str, Any]:
    repeats = request.get("repeats", 1)
    return {
        "id": request["id"], "ok": True, "protocol": 1, "backend": "sleep", "versions": {"sleep": "1"}, "python": "3",
        "machine": "x", "system": "y", "n_cores": 2, "cpus": [0, 1], "clocks": {"wall": "c"}, "pid": 1, "handle": 1,
        "load_ns": 5, "settings": {}, "wall_ns": [1000] * repeats, "cpu_ns": [1000] * repeats,
        "switches": [0] * repeats, "peak_rss_kb": None,
    }  # fmt: skip


def damaged(reply: dict[str, Any], rng: random.Random) -> str:
    name = rng.choice(list(reply))
    value = rng.choice(NASTY)
    if rng.random() < 0.2:
        del reply[name]
    elif isinstance(reply[name], list) and rng.random() < 0.5:
        reply[name][rng.randrange(len(reply[name]))] = value
    elif isinstance(reply[name], dict) and rng.random() < 0.5:
        reply[name] = {rng.choice(["sleep", "wall", "inner", "\x1b"]): value}
    else:
        reply[name] = value
    return json.dumps(reply)


def answer(request: dict[str, Any], rng: random.Random) -> None:
    reply = honest(request)
    kind = rng.choice(["honest"] * 8 + ["damaged"] * 8 + ["error", "text", "twice", "deep", "stderr", "end"] + ["hang"])
    if kind == "damaged":
        print(damaged(reply, rng))
    elif kind == "error":
        error = {"type": rng.choice(NASTY), "message": rng.choice(["\x1b]0;x\x07" * 99, "two\nlines", 3, None])}
        print(json.dumps({"id": request["id"], "ok": False, "error": error}))
    elif kind == "text":
        print(rng.choice(["", "\x1b[2J", "{", "NaN", "[" * 100_000, "9" * 10_000, "@ofa-latency@ 1", "null", "\0"]))
    elif kind == "deep":
        print('{"id":' * 10_000)
    elif kind == "twice":
        print(json.dumps(reply) + "\n" + json.dumps(reply))
    elif kind == "stderr":
        sys.stderr.write("\x1b[2JFatal\x07\n" * 10_000)
        os._exit(rng.choice([0, 1, 255]))
    elif kind == "end":
        os._exit(rng.choice([0, 3, 139]))
    elif kind == "hang":
        time.sleep(600)
    else:
        print(json.dumps(reply))


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    rng = random.Random(sys.argv[1])
    for line in sys.stdin:
        answer(json.loads(line), rng)


if __name__ == "__main__":
    main()
