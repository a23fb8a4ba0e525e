"""Every file that names a space identifies it: a space of one's own comes back, and another one is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from ofa_core.arch_json import arch_from_dict, arch_to_dict, read_arch_dict, write_arch
from ofa_core.errors import ContextMismatchError, FormatError, OfaError, SpaceError
from ofa_core.export.metadata import arch_metadata
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_columns import LATENCY
from ofa_core.measured_files import MeasuredFile
from ofa_core.measured_networks import Network, read_networks, spaces_of, write_networks
from ofa_core.space_record import labelled, space_of_record
from ofa_core.spaces import get_space, tiny
from ofa_core.table import Context, Entry, LatencyTable
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.loading import load_accuracy, load_latency
from predictors.persistence import load_predictor, save_predictor
from profiler.journal import Journal

CIFAR = labelled(replace(tiny(), first_stride=1, n_classes=100))
DIFFERENCE = "classes 100, not 10; stem stride 1, not 2"


def table_of(space):
    entries = {(None, block): Entry(latency_ms=0.1) for block in space.all_blocks()}
    return LatencyTable(Context(device="rig", backend="b"), entries)


def networks_of(space, n=6):
    archs = decode(space, sample_genomes(space, n, np.random.default_rng(0)))
    return [Network(space, arch, "reference", 10, 1.0 + i, 1.5 + i) for i, arch in enumerate(archs)]


def without_new_columns(path):
    """The file as version 0.1.0 wrote it."""
    rows = list(csv.reader(path.read_text().splitlines()))
    new = ("space_", "weights_", "images_", *(("dtype", "ranges") if "ranges" in rows[0] else ()))
    kept = [i for i, name in enumerate(rows[0]) if not name.startswith(new)]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([row[i] for i in kept] for row in rows)


def test_measured_networks(tmp_path):
    path = tmp_path / "t.networks.csv"
    write_networks(path, Context(), networks_of(CIFAR))
    (space,) = {net.space for net in read_networks(path)}
    assert asdict(space) == asdict(CIFAR)
    assert spaces_of(table_of(CIFAR), read_networks(path)) == (CIFAR,)
    with pytest.raises(FormatError, match=f"no row of space tiny.*{CIFAR.name}.*{DIFFERENCE}"):
        MeasuredFile.read(path).select(tiny(), MeasuredFile.read(path).column(quantity=LATENCY))


def test_measured_networks_of_version_0_1(tmp_path):
    path = tmp_path / "t.networks.csv"
    write_networks(path, Context(), networks_of(tiny()))
    new = read_networks(path)
    without_new_columns(path)
    assert read_networks(path) == new


def test_a_row_whose_digest_is_not_its_definitions_is_refused(tmp_path):
    path = tmp_path / "t.networks.csv"
    write_networks(path, Context(), networks_of(CIFAR))
    path.write_text(path.read_text().replace(CIFAR.digest, tiny().digest))
    with pytest.raises(FormatError, match=r"line 2: .*digest"):
        read_networks(path)


def test_an_architecture(tmp_path):
    arch = CIFAR.largest(32)
    write_arch(tmp_path / "a.json", arch, CIFAR)
    record = read_arch_dict(tmp_path / "a.json")
    assert asdict(space_of_record(record)) == asdict(CIFAR)
    assert arch_from_dict(record, CIFAR) == arch
    assert arch_from_dict(record, CIFAR.with_classes(7)) == arch  # the classifier is not the architecture's
    for other in (tiny(), replace(CIFAR, expands=(3, 4, 6))):
        with pytest.raises(SpaceError, match="the architecture is of space"):
            arch_from_dict(record, other)
    with pytest.raises(SpaceError, match="stem stride 2, not 1"):
        arch_from_dict({"space": "tiny", **arch_to_dict(arch, CIFAR)}, CIFAR)
    assert arch_from_dict({"space": "my own label", **arch_to_dict(arch, CIFAR)}, CIFAR) == arch


def accuracy_table(path, space):
    pytest.importorskip("torch", reason="needs torch")
    from ofa_core.train.accuracy_table import Origin, planned_archs, write_table

    archs = planned_archs(space, 40, 0)
    list(write_table(path, space, archs, lambda arch: (50 + space.macs(arch) / 1e6, 100), Origin("weights", "images")))
    return path


@pytest.mark.torch
def test_an_accuracy_table(tmp_path):
    path = accuracy_table(tmp_path / "a.csv", CIFAR)
    assert load_accuracy(str(path), CIFAR).n_rows_ == 40
    with pytest.raises(FormatError, match=DIFFERENCE):
        load_accuracy(str(path), tiny())
    with pytest.raises(SpaceError, match=DIFFERENCE):  # no rows of two spaces in one file
        accuracy_table(path, tiny())


@pytest.mark.torch
def test_an_accuracy_table_of_version_0_1(tmp_path):
    path = accuracy_table(tmp_path / "a.csv", tiny())
    without_new_columns(path)
    assert load_accuracy(str(path), tiny()).n_rows_ == 40
    accuracy_table(path, tiny())  # goes on
    assert load_accuracy(str(path), tiny()).n_rows_ == 40

    small = replace(get_space("mbv3-w0.5"), first_stride=1, resolutions=(32,))  # kept the name then
    path = accuracy_table(tmp_path / "b.csv", small)
    without_new_columns(path)
    with pytest.raises(FormatError, match=r"line 2: mbv3-w0\.5 is not trained at 32 px.*no space_digest"):
        load_accuracy(str(path), get_space("mbv3-w0.5"))


@pytest.mark.parametrize("made", [lambda: MacsProxy(CIFAR), lambda: AccuracyPredictor(CIFAR)])
def test_a_predictor_of_accuracy(tmp_path, made):
    predictor = made()
    genomes = sample_genomes(CIFAR, 60, np.random.default_rng(0))
    predictor.fit(genomes, 50 + np.arange(60) / 10)
    save_predictor(tmp_path / "p.predictor", predictor)
    again = load_predictor(tmp_path / "p.predictor")
    assert asdict(again.space) == asdict(CIFAR)
    np.testing.assert_allclose(again.predict(genomes), predictor.predict(genomes))
    with pytest.raises(SpaceError, match=DIFFERENCE):
        load_accuracy(str(tmp_path / "p.predictor"), tiny())


def test_a_predictor_of_latency(tmp_path):
    from predictors.lut import LutPredictor

    save_predictor(tmp_path / "p.predictor", LutPredictor(CIFAR).fit(table_of(CIFAR), networks_of(CIFAR)))
    assert asdict(load_latency(tmp_path / "p.predictor").space) == asdict(CIFAR)
    with pytest.raises(SpaceError, match=rf"p\.predictor is of space {CIFAR.name}, not tiny: {DIFFERENCE}"):
        load_latency(tmp_path / "p.predictor", tiny())


def test_the_metadata_of_a_model():
    told = arch_metadata(CIFAR, CIFAR.largest(32), "fused", trained=False)
    assert asdict(space_of_record({**told, "arch": None})) == asdict(CIFAR)
    assert "space_definition" not in arch_metadata(tiny(), tiny().largest(32), "fused", trained=False)


def test_a_journal(tmp_path):
    from ofa_core.space_record import space_fields

    header = {"context": {}, "items": []}
    Journal(tmp_path / "j", {**header, "space": "tiny"}).close()  # as version 0.1.0 wrote it
    Journal(tmp_path / "j", {**header, **space_fields(tiny())}).close()
    with pytest.raises(ContextMismatchError, match=r"stem stride 2, not 1"):
        Journal(tmp_path / "j", {**header, **space_fields(CIFAR)})


def test_the_published_accuracies_are_not_those_of_other_spaces(tmp_path):
    from ofa_core.formats.acc_predictor import PublishedAccuracyPredictor

    w12 = get_space("mbv3-w1.2")
    n = w12.n_slots * 6 + 1
    weights = (np.zeros((n, 1), np.float32),)
    PublishedAccuracyPredictor(w12, (224,), weights, (np.zeros(1, np.float32),)).write(tmp_path / "p.npz")
    assert load_accuracy(str(tmp_path / "p.npz"), get_space("mbv3-w1.0")).space == get_space("mbv3-w1.0")
    for other in (w12.with_classes(10), labelled(replace(w12, first_stride=1))):
        with pytest.raises(OfaError, match=r"is none of them( \(classes 10, not 1000\))?; give"):
            load_accuracy(str(tmp_path / "p.npz"), other)
        with pytest.raises(OfaError, match="no built-in accuracy model"):
            load_accuracy(None, other)


def test_json_of_a_definition_is_short():
    from ofa_core.space_record import space_columns

    assert len(json.dumps(space_columns(labelled(replace(get_space("mbv3-w1.0"), first_stride=1))))) < 1500
