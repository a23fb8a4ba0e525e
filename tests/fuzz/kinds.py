"""The one table of what the fuzz test damages: each kind of file that the commands read, and what reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mutations as m
from in_process import Call
from sound_files import FAKE, resume_run

ARCH = ("ofa-predict", "arch.json", "--json")
SEARCH = ("ofa-search", "--max-latency-ms", "1", "--no-report", "--json", "--out", "out/search")
VERIFY = ("ofa-profile", "verify", "--lut", "table.csv", "--target", "fake", "--budget-s", "2")
BY_MACS = (*SEARCH, "--accuracy", "proxy:macs")


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: of the kind.
        file: the sound file that is damaged, below the folder of sound files.
        mutations: the damage that suits it; bytes are damaged of every kind.
        calls: what reads it: command lines, or functions of the folder where a command would take too long.
        beside: other files that the calls need.
        share: damaged files of this kind, in relation to others.
        resumes: reading may change the file: a command that goes on cuts a torn end off and appends.
    """

    name: str
    file: str
    mutations: tuple[m.Mutation, ...]
    calls: tuple[Call, ...]
    beside: tuple[str, ...] = ()
    share: float = 1.0
    resumes: bool = False


def _converted(file: str) -> tuple[str, ...]:
    return ("ofa-profile", "convert", file, "out/table.csv")


# ---- functions for what no quick command reads -----------------------------------------------------------------------


def _finite(*values: float) -> None:
    assert all(math.isfinite(value) for value in values), values


def _recipe(folder: Path) -> None:
    from ofa_core.train.config import build_phases, build_space, read_config

    config = read_config(folder / "recipe.toml")
    space = build_space(config.space, 10)
    for phase in build_phases(config, space):
        _finite(phase.lr, phase.epochs, phase.kd_ratio)


def _devices(folder: Path) -> None:
    from devices.target import Target, read_aliases

    aliases = read_aliases([folder / "devices.toml"])
    for name in aliases:
        str(Target.parse(name, aliases))


def _weights(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        import torch

        from ofa_core.spaces import tiny
        from ofa_core.train.commands import load_weights

        read = load_weights(folder / name, tiny(), "half")
        read.space.blocks(read.arch or read.space.smallest())
        with torch.no_grad():
            _finite(*(float(p.abs().max()) for p in read.net.parameters()))

    return read


def _accuracy_npz(folder: Path) -> None:
    from ofa_core.spaces import tiny
    from predictors.loading import load_accuracy

    model = load_accuracy(str(folder / "accuracy.npz"), tiny())
    _finite(*model.predict([tiny().smallest(24), tiny().largest(32)]).tolist())


def _images(folder: Path) -> None:
    from ofa_core.train.sources import open_sources

    for source in open_sources(f"npz:{folder / 'images.npz'},{folder / 'images.npz'}"):
        for index, label in enumerate(source.labels):
            assert source.load(index).mode == "RGB"
            assert 0 <= label < len(source.classes)


def _hub_index(folder: Path) -> None:
    from ofa_core.hub_index import read_index_file

    for item in read_index_file(folder / "hub.json").items:
        assert "/" not in item.name
        assert not any(file.name.startswith((".", "/")) for file in item.files)


def _shared(folder: Path) -> None:
    from ofa_core.share import unpack_share
    from ofa_core.table import LatencyTable

    table = unpack_share(folder / "table.share.zip", folder / "out" / "unpacked")
    assert table.parent == folder / "out" / "unpacked"
    LatencyTable.read(table)


def _space(folder: Path) -> None:
    from ofa_core.space_files import space_from

    space = space_from(str(folder / "space.toml"))
    _finite(space.macs(space.largest()), space.params(space.smallest()))


FOLDER = tuple(f"search/{name}" for name in (
    "search.json", "pareto.csv", "candidates.json", "blocks.csv", "measured.csv", "networks.csv", "arch.json"
))  # fmt: skip


def _search_file(name: str) -> Kind:
    mutation = m.tree_of if name.endswith(".json") else m.cells_of
    calls: tuple[Call, ...] = (("ofa-search", "report", "search", "--out", "out/report.html"),)
    return Kind(f"search folder: {name}", f"search/{name}", (mutation,), calls, FOLDER, share=0.3)


def _predictor(name: str) -> Kind:
    evaluated = ("ofa-predict", "evaluate", "measured.csv", "--predictor", name, "--json")
    calls = ((*ARCH, "--lut", name), evaluated)
    return Kind(f".predictor: {Path(name).stem}", name, (m.zip_of,), calls, ("arch.json", "measured.csv"))


def _checkpoint(name: str) -> Kind:
    return Kind(name, name, (m.torch_of, m.torch_of, m.zip_of, m.code_of), (_weights(name),), share=0.7)


RUN = tuple(f"run/{name}" for name in ("run-0000000001.pt", "run-0000000002.pt", "log.csv", "phases.csv"))
TEXT, CELLS = (m.tokens_of,), (m.tokens_of, m.cells_of)
TREE, TOML = (m.tokens_of, m.tree_of), (m.tokens_of, m.toml_of)
PREDICT_FIT = ("ofa-predict", "fit")
OF_TABLE = (
    (*ARCH, "--lut", "table.csv"),
    (*ARCH, "--lut", "table.csv", "--fill", "--blocks"),
    (*BY_MACS, "--lut", "table.csv"),
    _converted("table.csv"),
    ("ofa-profile", "compare", "table.csv", "other.csv"),
    ("ofa-predict", "batch", "8", "table.csv", "batch4.csv", "--out", "out/b.csv"),
)
OF_NETWORKS = (
    (*ARCH, "--lut", "table.csv"),
    (*PREDICT_FIT, "table.csv", "--out", "out/x.predictor"),
    (*BY_MACS, "--lut", "table.csv"),
)
OF_SESSION = ((*ARCH, "--lut", "nets.csv"), (*PREDICT_FIT, "nets.csv", "--out", "out/x.predictor"))
OF_MEASURED = (
    (*ARCH, "--lut", "measured.csv"),
    ("ofa-predict", "evaluate", "measured.csv", "--sizes", "8", "--seeds", "1", "--json"),
)
OF_TOP1 = ((*PREDICT_FIT, "top1.csv", "--out", "out/a.predictor"),)
OF_ARCH = (ARCH, (*ARCH, "--lut", "table.csv", "--blocks"))

KINDS: tuple[Kind, ...] = (
    Kind("table CSV", "table.csv", CELLS, OF_TABLE, ("arch.json", "other.csv", "batch4.csv", "table.networks.csv")),
    Kind("table YAML", "table.yaml", TEXT, ((*ARCH, "--lut", "table.yaml"), _converted("table.yaml")), ("arch.json",)),
    Kind("ratio YAML", "ratio.yaml", TEXT, (_converted("ratio.yaml"),)),
    Kind("table JSON", "table.json", TREE, (_converted("table.json"),)),
    Kind("key,ms", "pairs.csv", TEXT, (_converted("pairs.csv"),)),
    Kind("networks beside a table", "table.networks.csv", CELLS, OF_NETWORKS, ("arch.json", "table.csv")),
    Kind("networks of a session", "nets.csv", CELLS, OF_SESSION, ("arch.json",), share=0.5),
    Kind("measured latencies", "measured.csv", CELLS, OF_MEASURED, ("arch.json",), share=0.5),
    Kind("measured accuracies", "top1.csv", CELLS, OF_TOP1, share=0.5),
    Kind("architecture", "arch.json", TREE, OF_ARCH, ("table.csv",)),
    Kind("net.config", "net.config", TREE, (("ofa-predict", "net.config", "--json"),)),
    Kind("run.config", "published/run.config", TREE, (("ofa-predict", "published", "--json"),),
         ("published/net.config",), share=0.5),
    *(_predictor(f"{name}.predictor") for name in ("table", "network", "transfer")),
    Kind(".predictor: accuracy", "accuracy.predictor", (m.zip_of,),
         ((*SEARCH, "--lut", "table.csv", "--accuracy", "accuracy.predictor"),), ("table.csv",), share=0.7),
    *(_checkpoint(name) for name in ("supernet.pt", "subnet.pt", "published.pth")),
    Kind("accuracy .npz", "accuracy.npz", (m.arrays_of,), (_accuracy_npz,)),
    Kind("journal", "run.journal.jsonl", (m.lines_of, m.tokens_of),
         ((*FAKE, "--nets", "6", "--processes", "3", "--budget-s", "3", "--out", "run.csv"),), share=0.5, resumes=True),
    *(_search_file(Path(name).name) for name in FOLDER[:-1]),
    Kind("candidates.json", "search/candidates.json", TREE, ((*VERIFY, "--candidates", "search/candidates.json"),),
         ("table.csv",), share=0.5),
    Kind("hub index", "hub.json", TREE, (_hub_index,), share=0.5),
    Kind("shared table", "table.share.zip", (m.zip_of,), (_shared,), share=0.5),
    Kind("devices.toml", "devices.toml", TOML, (_devices,)),
    Kind("training run: run-*.pt", RUN[1], (m.torch_of, m.zip_of, m.code_of), (resume_run,), RUN, 0.1, resumes=True),
    Kind("training run: log.csv", RUN[2], CELLS, (resume_run,), (RUN[0], RUN[3]), 0.1, resumes=True),
    Kind("training run: phases.csv", RUN[3], CELLS, (resume_run,), (RUN[0], RUN[2]), 0.1, resumes=True),
    Kind("images .npz", "images.npz", (m.arrays_of,), (_images,), share=0.5),
    Kind("space TOML", "space.toml", TOML, (_space,)),
    Kind("recipe TOML", "recipe.toml", TOML, (_recipe,)),
)  # fmt: skip


def files_of(kind: Kind, n_files: int) -> int:
    """How many damaged files of a kind there are among all."""
    return math.ceil(n_files * kind.share / sum(each.share for each in KINDS))


def answer_is_finite(call: Call, stdout: str) -> bool:
    """Whether there is no nan and no infinity in what a command printed."""
    if not isinstance(call, tuple) or "--json" not in call:
        words = stdout.lower().replace("%", " ").split()
        return not {"nan", "inf", "-inf", "infinity"} & set(words)
    try:
        json.loads(stdout, parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _refuse(name: str) -> float:
    raise ValueError(name)
