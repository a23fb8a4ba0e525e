"""Make the index of published files, `ofa_core/data/hub.json`, from a listing of their repository.

    python tools/make_hub_index.py LISTING.csv COMMIT

The listing has the columns `path,git_blob_sha1,bytes` of the repository han-cai/files at that commit; `bytes` is empty
where the size is unknown. A folder's name holds what its authors measured, such as
`note10_lat-22ms_top1-76.6_finetune-25`; the batch sizes are those of their README.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

ADDRESS = "https://raw.githubusercontent.com/han-cai/files/{commit}/"
OUT = Path(__file__).parents[1] / "ofa_core" / "data" / "hub.json"

BATCH_SIZES = {"1080ti": 64, "v100": 64, "tx2": 16}
SUPERNET_SPACES = {
    "ofa_mbv3_d234_e346_k357_w1.0": "mbv3-w1.0",
    "ofa_mbv3_d234_e346_k357_w1.2": "mbv3-w1.2",
    "ofa_proxyless_d234_e346_k357_w1.3": "proxyless-w1.3",
}
# Evaluation code of both projects: scale the shorter side to size / 0.875, centre crop, ImageNet mean and std.
IMAGENET = "imagenet"
PROXYLESS_PX = 224  # size of the authors' evaluation; their folder holds no run.config


def file_of(row: dict[str, str], name: str) -> dict[str, Any]:
    size = int(row["bytes"]) if row["bytes"] else None
    return {"name": name, "path": row["path"], "git_blob_sha1": row["git_blob_sha1"], "bytes": size}


def measured(folder: str) -> dict[str, Any]:
    """Return the facts in the name of a specialised net's folder."""
    match = re.fullmatch(
        r"(?P<device>[\w-]+?)(?:_(?P<unit>gpu|lat)(?P<batch>\d*)-(?P<ms>\d+)ms|-(?P<macs>\d+)M)"
        r"_top1-(?P<top1>[\d.]+)_finetune-(?P<epochs>\d+)",
        folder,
    )
    if match is None:
        raise SystemExit(f"{folder}: not the name of a specialised net")
    device = match["device"].lower()
    facts: dict[str, Any] = {"top1": float(match["top1"]), "finetune_epochs": int(match["epochs"])}
    if match["macs"]:
        return {**facts, "mmacs": int(match["macs"])}
    batch_size = int(match["batch"] or 1)
    if batch_size != BATCH_SIZES.get(device, 1):
        raise SystemExit(f"{folder}: batch size {batch_size} is not the one of the README")
    return {"device": device, "latency_ms": float(match["ms"]), "batch_size": batch_size, **facts}


def items(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return one item per published thing; every row belongs to exactly one."""
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, kind: str, row: dict[str, str], file: str, facts: dict[str, Any]) -> None:
        item = found.setdefault(name, {"name": name, "kind": kind, **facts, "files": []})
        item["files"].append(file_of(row, file))

    for row in rows:
        path = Path(row["path"])
        if path.parent.name == "note10":
            add("note10", "table", row, path.name, {"device": "note10", "space": "mbv3-w1.2"})
        elif path.parent.name == "ofa_nets":
            facts = {"space": SUPERNET_SPACES[path.name], "preprocessing": IMAGENET}
            add(path.name, "supernet", row, path.name, facts)
        elif path.parent.parent.name == "ofa_specialized":
            add(path.parent.name, "net", row, path.name, {**measured(path.parent.name), "preprocessing": IMAGENET})
        elif path.parent.name == "ofa" and path.stem.endswith("acc_predictor"):
            facts = {} if "resnet50" in path.stem else {"space": "mbv3-w1.2"}
            add(path.stem, "accuracy", row, path.name, facts)
        elif path.name == "mobile_trim.yaml":
            add(path.stem, "table", row, path.name, {})
        elif path.parent.name == "proxylessnas":
            facts = {} if "cifar" in path.stem else {"preprocessing": IMAGENET, "resolution_px": PROXYLESS_PX}
            add(path.stem, "net", row, {".config": "net.config", ".pth": "init"}[path.suffix], facts)
        else:
            raise SystemExit(f"{path}: no rule for this path")
    return list(found.values())


def main(listing: str, commit: str) -> None:
    with Path(listing).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    made = items(rows)
    lines = ",\n  ".join(json.dumps(item) for item in made)
    OUT.write_text(f'{{"schema": 1, "address": "{ADDRESS.format(commit=commit)}", "items": [\n  {lines}\n]}}\n')
    print(f"{len(rows)} files in {len(made)} items: {OUT}")


if __name__ == "__main__":
    main(*sys.argv[1:])
