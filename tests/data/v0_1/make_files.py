"""Write a predictor of each kind, and what commit 927bf8a reads out of every file here (expected.json).

Run in a checkout of that commit, in a folder that holds what the commands of README.md wrote.
"""

import json
from pathlib import Path

import numpy as np
import torch

from ofa_core.arch import arch_to_dict
from ofa_core.formats.checkpoint import read_checkpoint
from ofa_core.search.folder import read_folder
from ofa_core.spaces import get_space
from ofa_core.table import LatencyTable
from predictors.accuracy import AccuracyPredictor, MacsProxy, load_accuracy
from predictors.builtin import BuiltinAccuracy
from predictors.loading import load_latency
from predictors.lut import LutPredictor, load_lut
from predictors.measured import measured_arrays
from predictors.network import NetworkPredictor
from predictors.persistence import load_predictor, save_predictor
from predictors.transfer import TransferPredictor
from profiler.journal import read_journal

space = get_space("tiny")
table = LatencyTable.read(Path("tiny.csv"))
lut = load_lut(Path("tiny.csv"), space)
archs, ms = measured_arrays(Path("tiny.networks.csv"), "latency_ms", space)
scored, top1 = measured_arrays(Path("accuracy.csv"), "top1", space)
part = LatencyTable(table.context, dict(list(table.entries.items())[::2]))
models = {
    "lut": lut,
    "lut-fill": LutPredictor(space, fill=True).fit(part, []),
    "network": NetworkPredictor(space).fit(archs, ms),
    "network-table": NetworkPredictor(space, table=table).fit(archs, ms),
    "transfer": TransferPredictor(space).fit(archs[:12], ms[:12], sources=[table, (archs[12:], 2 * ms[12:])]),
    "quadratic": AccuracyPredictor(space, model="quadratic").fit(scored, top1),
    "rbf": AccuracyPredictor(space, model="rbf").fit(scored, top1),
    "ridge": AccuracyPredictor(space, model="ridge").fit(scored, top1),
    "macs": MacsProxy(space),
    "builtin": BuiltinAccuracy(get_space("mbv3-w1.0")),
}
Path("predictors").mkdir(exist_ok=True)
expected = {}


def asked(of, pixels):
    rng = np.random.default_rng(7)
    return of.decode(of.sample_genomes(8, rng, pixels))


nets = asked(space, [24, 28, 32])
large = asked(get_space("mbv3-w1.0"), [160, 224])
expected["archs"] = [arch_to_dict(a, space) for a in nets]
expected["large_archs"] = [arch_to_dict(a, get_space("mbv3-w1.0")) for a in large]
expected["predictors"] = {}
for name, model in models.items():
    path = Path(f"predictors/{name}.predictor")
    save_predictor(path, model)
    y, low, high = load_predictor(path).predict(large if name == "builtin" else nets, return_interval=True)
    expected["predictors"][name] = {"y": y.tolist(), "low": low.tolist(), "high": high.tolist()}
expected["table_with_networks"] = lut.predict(nets).tolist()
expected["networks_alone"] = load_latency(Path("tiny.networks.csv"), space).predict(nets).tolist()
expected["accuracy"] = load_accuracy("accuracy.csv", space).predict(nets).tolist()
journal = read_journal(Path("tiny.journal.jsonl"))
expected["journal"] = {"visits": len(journal.visits), "wall_ns": sum(sum(v.wall_ns) for v in journal.visits.values())}
found = read_folder(Path("search"))
expected["search"] = {
    "candidates": [[c.predicted_ms, c.top1] for c in found.candidates],
    "front": len(found.front.latency_ms),
    "space": found.space.name,
}
checkpoint = read_checkpoint(Path("digits/supernet.pt"))
net = checkpoint.net.eval()
image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
with torch.no_grad():
    expected["supernet"] = {str(px): net(image[..., :px, :px], space.largest(px)).flatten().tolist() for px in (24, 32)}
Path("expected.json").write_text(json.dumps(expected) + "\n")
print({k: (len(v) if hasattr(v, "__len__") else v) for k, v in expected.items()})
