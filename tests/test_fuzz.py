"""Damaged files: 1,000 seeded mutations of each kind that users hand us. Only our errors may come out, in one line.

The mutations are of bytes (flips, cuts, repeats, foreign bytes), of tokens (numbers to huge, negative, NaN or text;
names to unicode) and, where a file is JSON, of its tree (types swapped, nesting, fields dropped).
"""

from __future__ import annotations

import copy
import csv
import json
import re
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch_json import arch_from_dict, arch_to_dict, read_arch_dict
from ofa_core.errors import OfaError
from ofa_core.formats.net_config import find_space, net_config_of, read_net_config
from ofa_core.formats.yaml_tables import read_table, write_ofa_yaml
from ofa_core.measured_networks import Network, read_networks, write_networks
from ofa_core.spaces import proxyless, tiny
from ofa_core.table import Context, Entry, LatencyTable

N = 1000
MAX_MESSAGE = 500
MAX_GROWTH_KB = 1_000_000
MAX_SECONDS_EACH = 20.0  # a bound against hanging, not a measure of speed

NASTY_TOKENS = (
    "", "-1", "0", "nan", "NaN", "inf", "-inf", "1e999", "1e-999", "9" * 400, "9" * 5000, "0x10", "1_000", "true",
    "null", "None", "~", "[]", "{}", "[[[[[[", '"', "'", ",", ":", "- ", "? ", "& ", "*a", "&a a",
    "!!python/object:a.b x", "!!int", "%YAML 9", "---", "...", "\x00", "\x85", "\u2028", "\ufeff", "é", "火" * 100,
    "٣", "²", "\ud7ff", "expand:0", "kernel:0", "stride:0",
    "x" * 100_000, "\n", "\r", "\t", "\\", "../../etc/passwd", "{mean: 1}",
)  # fmt: skip
NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, -1e308, float("nan"), float("inf"), "", "3", "relu",
    "火\n火", "x" * 10_000, [], {}, [[]], [None], [1, 2, 3], {"name": "ZeroLayer"}, {"a": {"b": {"c": []}}}, [3] * 300,
)  # fmt: skip


def mutated_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(out) + 1))
        match int(rng.integers(0, 7)):
            case 0 if out:
                out[at % len(out)] ^= 1 << int(rng.integers(8))
            case 1:
                del out[at:]
            case 2:
                del out[at : at + int(rng.integers(1, 60))]
            case 3:
                out[at:at] = out[at : at + int(rng.integers(1, 200))] * int(rng.integers(1, 4))
            case 4:
                out[at:at] = rng.integers(0, 256, size=int(rng.integers(1, 9)), dtype=np.uint8).tobytes()
            case 5:
                out[at:at] = b"[{("[int(rng.integers(3)) :][:1] * int(rng.choice([3, 300, 30_000]))
            case _:
                other = int(rng.integers(0, len(out) + 1))
                out[at:at] = out[other : other + 40]
    return bytes(out)


def mutated_tokens(data: bytes, rng: np.random.Generator) -> bytes:
    tokens = re.split(r"([\s,:\[\]{}\"x-])", data.decode())
    for _ in range(rng.integers(1, 4)):
        i = int(rng.integers(len(tokens)))
        action = int(rng.integers(4))
        if action == 0:
            j = int(rng.integers(len(tokens)))
            tokens[i], tokens[j] = tokens[j], tokens[i]
        elif action == 1:
            tokens.insert(i, NASTY_TOKENS[int(rng.integers(len(NASTY_TOKENS)))])
        else:
            tokens[i] = NASTY_TOKENS[int(rng.integers(len(NASTY_TOKENS)))]
    return "".join(tokens).encode(errors="surrogatepass")


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*at, key))


def mutated_tree(data: bytes, rng: np.random.Generator) -> bytes:
    tree = json.loads(data)
    for _ in range(rng.integers(1, 3)):
        every = list(places(tree))
        at = every[int(rng.integers(len(every)))]
        value = copy.deepcopy(NASTY_VALUES[int(rng.integers(len(NASTY_VALUES)))])
        if rng.random() < 0.1:
            for _ in range(int(rng.choice([5, 200]))):
                value = [value] if rng.random() < 0.5 else {"arch": value}
        if not at:
            tree = value
            break
        parent = tree
        for step in at[:-1]:
            parent = parent[step]
        if rng.random() < 0.15:
            del parent[at[-1]]
        else:
            parent[at[-1]] = value
        if not isinstance(tree, dict | list) or not tree:
            break
    return json.dumps(tree).encode()


# ---- the kinds of file -----------------------------------------------------------------------------------------------


def _arch(path: Path) -> None:
    record = read_arch_dict(path)
    arch_to_dict(arch_from_dict(record, tiny()), tiny())


def _net_config(path: Path) -> None:
    config = read_net_config(path)
    find_space(config)
    assert config.macs > 0


def _table(path: Path) -> None:
    table = read_table(path)
    table.spaces()
    table.to_csv()


def _rows(path: Path, keep: int) -> None:
    """Keep a file small: its header and some rows."""
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows[:keep])


def seed_files(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A sound file of each kind, and what reads it."""
    space, rng = tiny(), np.random.default_rng(0)
    blocks = space.all_blocks([24])
    table = LatencyTable(Context(device="d"), {(None, b): Entry(float(rng.random()), iqr_ms=0.1) for b in blocks})
    table.write(folder / "table.csv")
    _rows(folder / "table.csv", 8)
    (yaml_path,) = write_ofa_yaml(table, folder, space, [24])
    yaml_path.rename(folder / "table.yaml")
    wide = proxyless().all_blocks([224])
    wide_table = LatencyTable(Context(), {(None, b): Entry(1.0) for b in wide})
    (other,) = write_ofa_yaml(wide_table, folder, proxyless(), [224])
    (folder / "ratio.yaml").write_text("".join(other.read_text().splitlines(keepends=True)[:39]))
    (folder / "pairs.csv").write_text("14x14x80-14x14x80-expand:3-kernel:7-stride:1,2.25\n" * 1)
    (folder / "table.json").write_text(json.dumps({"Conv-input:24x24x3-output:12x12x8": {"count": 3, "mean": 1.5}}))
    archs = space.decode(space.sample_genomes(3, rng))
    networks = [Network(space, a, "reference", len(space.blocks(a)), 1.5, 1.6, n_samples=9) for a in archs]
    write_networks(folder / "t.networks.csv", Context(), networks)
    (folder / "arch.json").write_text(json.dumps({"schema": 1, "space": "tiny", **arch_to_dict(archs[0], space)}))
    (folder / "net.json").write_text(json.dumps({**net_config_of(space, archs[0]), "resolution": 24}))
    return {
        "table CSV": (folder / "table.csv", _table),
        "table YAML": (folder / "table.yaml", _table),
        "ratio YAML": (folder / "ratio.yaml", _table),
        "table JSON": (folder / "table.json", _table),
        "key,ms": (folder / "pairs.csv", _table),
        "networks CSV": (folder / "t.networks.csv", read_networks),
        "arch JSON": (folder / "arch.json", _arch),
        "net.config": (folder / "net.json", _net_config),
    }


KINDS = ("table CSV", "table YAML", "ratio YAML", "table JSON", "key,ms", "networks CSV", "arch JSON", "net.config")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path, read = seed_files(tmp_path)[kind]
    read(path)  # the sound file
    sound = path.read_bytes()
    is_tree = sound[:1] == b"{"
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for seed in range(N):
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        mutate = (mutated_bytes, mutated_tokens, mutated_tree)[int(rng.integers(3 if is_tree else 2))]
        data = mutate(sound, rng)
        path.write_bytes(data)
        start = time.perf_counter()
        try:
            read(path)
        except OfaError as error:
            message = str(error).replace(str(path), path.name)
            assert len(message) < MAX_MESSAGE, (seed, message[:MAX_MESSAGE])
            assert message.isprintable(), (seed, message[:MAX_MESSAGE])
            refused += 1
        assert time.perf_counter() - start < MAX_SECONDS_EACH, seed
    assert refused > N // 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < MAX_GROWTH_KB
