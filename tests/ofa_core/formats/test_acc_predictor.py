from __future__ import annotations

import sys
import types
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch_json import arch_from_dict, arch_to_dict
from ofa_core.errors import ArchError, FormatError, OfaError, PredictorError
from ofa_core.formats.acc_predictor import PublishedAccuracyPredictor, read_acc_predictor
from ofa_core.genomes import decode, encode, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3, proxyless, tiny

NET_A: dict[str, Any] = {
    "ks": [5, 3, 3, 3, 5, 3, 3, 3, 7, 7, 3, 3, 5, 5, 7, 3, 3, 3, 5, 3],
    "e": [3, 3, 3, 3, 4, 4, 3, 3, 6, 3, 4, 3, 4, 4, 4, 3, 6, 6, 6, 3],
    "d": [2, 2, 3, 4, 3],
}
GOLDEN = {160: 0.79199755, 176: 0.80576986, 192: 0.81712854, 208: 0.82281357, 224: 0.82586861}


def random_weights(sizes: list[int], seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Weights and biases of a perceptron whose answers lie around a half, as those of fractions do."""
    rng = np.random.default_rng(seed)
    pairs = list(pairwise(sizes))
    weights = [rng.normal(scale=a**-0.5, size=(a, b)).astype(np.float32) for a, b in pairs]
    biases = [rng.normal(size=b).astype(np.float32) for _, b in pairs]
    return [*weights[:-1], 0.05 * weights[-1]], [*biases[:-1], np.full(1, 0.5, np.float32)]


def random_predictor(space: Space, resolutions: tuple[int, ...], hidden: int = 16) -> PublishedAccuracyPredictor:
    n = space.n_slots * (len(space.kernels) + len(space.expands)) + len(resolutions)
    weights, biases = random_weights([n, hidden, hidden, hidden, 1])
    return PublishedAccuracyPredictor(space, resolutions, tuple(weights), tuple(biases))


def save_tutorial_form(path: Path, sizes: list[int]) -> tuple[list[Any], list[Any]]:
    torch = pytest.importorskip("torch")
    weights, biases = random_weights(sizes)
    state = {}
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        state |= {f"{2 * i}.weight": torch.from_numpy(weight.T.copy()), f"{2 * i}.bias": torch.from_numpy(bias)}
    torch.save(state, path)
    return weights, biases


def plain_mlp(x: Any, weights: list[Any], biases: list[Any]) -> Any:
    """(n, inputs) -> (n,), in double precision and without any trick."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = np.maximum(x @ weight.astype(float) + bias, 0)
    return (x @ weights[-1].astype(float))[:, 0] + biases[-1][0]


def tutorial_features(record: dict[str, Any]) -> list[int]:
    """The 128 inputs of public-formats' layout, [kernel 60][expand 60][resolution 8], spelt out."""
    ks, e, r = [0] * 60, [0] * 60, [0] * 8
    for slot in range(20):
        if slot % 4 < record["d"][slot // 4]:
            ks[3 * slot + {3: 0, 5: 1, 7: 2}[record["ks"][slot]]] = 1
            e[3 * slot + {3: 0, 4: 1, 6: 2}[record["e"][slot]]] = 1
    r[(record["r"][0] - 112) // 16] = 1
    return ks + e + r


# ---- the published file ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(reference_data: Path) -> PublishedAccuracyPredictor:
    pytest.importorskip("torch")
    return read_acc_predictor(reference_data / "acc_predictor.pth")


@pytest.mark.reference
@pytest.mark.torch
def test_golden_predictions(published: PublishedAccuracyPredictor) -> None:
    got = published.predict([{**NET_A, "r": [px]} for px in GOLDEN])
    assert got == pytest.approx(100 * np.array(list(GOLDEN.values())), rel=1e-6)
    assert got.dtype == np.float64
    extremes = [published.space.largest(224), published.space.smallest(160)]
    assert published.predict(extremes) == pytest.approx([83.592778, 75.311863], rel=1e-6)


@pytest.mark.reference
@pytest.mark.torch
def test_the_published_file_is_for_w12_at_eight_resolutions(published: PublishedAccuracyPredictor) -> None:
    assert published.space.name == "mbv3-w1.2"
    assert published.resolutions == tuple(range(112, 225, 16))
    assert [w.shape for w in published.weights] == [(128, 400), (400, 400), (400, 400), (400, 1)]
    assert "on mbv3-w1.0 it has a known bias of +5.87 points" in published.note


@pytest.mark.reference
@pytest.mark.torch
def test_the_npz_predicts_the_same_without_torch(published: PublishedAccuracyPredictor, tmp_path: Path) -> None:
    published.write(tmp_path / "kept.npz")
    code = (
        "import sys; from pathlib import Path; from ofa_core.formats.acc_predictor import read_acc_predictor as read;"
        f"p = read(Path({str(tmp_path / 'kept.npz')!r}));"
        "print(*p.predict([p.space.largest(224)]).tolist(), 'torch' in sys.modules)"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.split() == [repr(float(published.predict([published.space.largest(224)])[0])), "False"]


@pytest.mark.reference
@pytest.mark.torch
def test_the_known_bias_on_w10(reference_data: Path) -> None:
    import csv
    import json

    predictor = read_acc_predictor(reference_data / "acc_predictor.pth", mobilenet_v3(1.0))
    with (reference_data / "ofa_mbv3_w1.0_imagenet_top1.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    archs = [{name: json.loads(row[name]) for name in ("ks", "e", "d", "r")} for row in rows]
    errors = predictor.predict(archs) - np.array([float(row["top1"]) for row in rows])
    assert errors.mean() == pytest.approx(5.87, abs=0.05)
    assert "the ranking holds, the level does not" in predictor.note


# ---- both forms, with made-up weights --------------------------------------------------------------------------------


@pytest.mark.torch
def test_the_tutorial_form_has_kernels_then_expands_then_resolution(tmp_path: Path) -> None:
    weights, biases = save_tutorial_form(tmp_path / "p.pth", [128, 32, 16, 1])
    predictor = read_acc_predictor(tmp_path / "p.pth")
    space = mobilenet_v3(1.2)
    archs = decode(space, sample_genomes(space, 50, np.random.default_rng(0), predictor.resolutions))
    features = np.array([tutorial_features(arch_to_dict(a, space)) for a in archs])
    expected = 100 * plain_mlp(features, weights, biases)
    assert predictor.predict(archs) == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert predictor.predict(encode(space, archs)) == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("space", "resolutions", "given"),
    [
        (mobilenet_v3(1.0), (128, 160, 192, 224), None),
        (mobilenet_v3(1.2), (160, 176, 192), (160, 176, 192)),
        (proxyless(1.3), (224,), None),
    ],
)
def test_the_nas_form_has_the_resolution_first_and_a_base(
    tmp_path: Path, space: Space, resolutions: tuple[int, ...], given: tuple[int, ...] | None
) -> None:
    torch = pytest.importorskip("torch")
    n_slots = space.n_slots
    weights, biases = random_weights([6 * n_slots + len(resolutions), 24, 24, 24, 1])
    biases[-1] = np.array([0.7], np.float32)
    state = {"base_acc": torch.tensor([0.7]), "layers.3.weight": torch.from_numpy(weights[-1].T.copy())}
    for i in range(3):
        state |= {f"layers.{i}.0.weight": torch.from_numpy(weights[i].T.copy())}
        state |= {f"layers.{i}.0.bias": torch.from_numpy(biases[i])}
    torch.save({"state_dict": state}, tmp_path / "nas.pth")
    predictor = read_acc_predictor(tmp_path / "nas.pth", space, given)
    archs = decode(space, sample_genomes(space, 40, np.random.default_rng(1), resolutions))
    features = np.zeros((len(archs), len(weights[0])))
    for row, arch in zip(features, archs, strict=True):
        record = arch_to_dict(arch, space)
        row[resolutions.index(arch.resolution_px)] = 1
        starts = space.stage_starts
        for slot, stage in enumerate(space.slot_stages):
            if slot - starts[stage] < arch.depths[stage]:
                at = len(resolutions) + 3 * slot
                row[at + space.kernels.index(record["ks"][slot])] = 1
                row[at + 3 * n_slots + space.expands.index(record["e"][slot])] = 1
    expected = 100 * plain_mlp(features, weights, biases)
    assert predictor.predict(archs) == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.torch
def test_the_authors_code_predicts_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    torch = pytest.importorskip("torch")
    found = importlib.util.find_spec("ofa")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package ofa is not installed (pip install --no-deps ofa)")
    stub = types.ModuleType("ofa.utils")
    stub.__dict__["download_url"] = lambda url: str(tmp_path / "p.pth")
    monkeypatch.setitem(sys.modules, "ofa", types.ModuleType("ofa"))
    monkeypatch.setitem(sys.modules, "ofa.utils", stub)
    file = Path(next(iter(found.submodule_search_locations))) / "tutorial" / "accuracy_predictor.py"
    spec = importlib.util.spec_from_file_location("authors_accuracy_predictor", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    save_tutorial_form(tmp_path / "p.pth", [128, 400, 400, 400, 1])
    ours = read_acc_predictor(tmp_path / "p.pth")
    theirs = module.AccuracyPredictor(device=torch.device("cpu"))
    space = ours.space
    archs = decode(space, sample_genomes(space, 64, np.random.default_rng(3), ours.resolutions))
    expected = theirs.predict_accuracy([arch_to_dict(a, space) for a in archs]).numpy()[:, 0]
    assert ours.predict(archs) == pytest.approx(100 * expected.astype(float), rel=1e-5, abs=1e-4)


def test_no_network_is_right_more_often_than_always() -> None:
    space = tiny()
    predictor = random_predictor(space, (24, 28, 32))
    genomes = sample_genomes(space, 50, np.random.default_rng(0))
    inside = predictor.predict(genomes)
    assert 0 < inside.min() < inside.max() < 100
    for end in (0.0, 100.0):
        shift = end - float(np.median(inside))
        biases = (*predictor.biases[:-1], predictor.biases[-1] + np.float32(shift / 100))
        moved = replace(predictor, biases=biases).predict(genomes)
        assert moved == pytest.approx(np.clip(inside + shift, 0, 100), abs=1e-3)
        assert 0 < (moved == end).sum() < len(moved)


def test_chunks_and_order_do_not_matter() -> None:
    predictor = random_predictor(mobilenet_v3(1.2), tuple(range(112, 225, 16)))
    genomes = sample_genomes(predictor.space, 1200, np.random.default_rng(0), predictor.resolutions)
    together = predictor.predict(genomes)
    shuffle = np.random.default_rng(1).permutation(len(genomes))
    assert predictor.predict(genomes[shuffle]) == pytest.approx(together[shuffle], rel=1e-6)
    assert predictor.predict(genomes[:3]) == pytest.approx(together[:3], rel=1e-6)
    assert predictor.predict(genomes[:0]).shape == (0,)


@pytest.mark.parametrize("space", [mobilenet_v3(), tiny()], ids=lambda space: space.name)
def test_scores_are_the_gradient(space: Space) -> None:
    rng = np.random.default_rng(8)
    predictor = random_predictor(space, (24, 28, 32))
    # Every unit is active with such weights, so that the gradient gives each change exactly.
    weights = (*(abs(weight) for weight in predictor.weights[:-1]), predictor.weights[-1] / 30)
    linear = replace(
        predictor, weights=weights, biases=(*(abs(b) for b in predictor.biases[:-1]), predictor.biases[-1])
    )
    rows = sample_genomes(space, 40, rng, (24, 28, 32))
    slots = np.asarray(space.stage_starts)[rng.integers(0, len(space.stages), 40)]
    changed, n = rows.copy(), np.arange(40)
    changed[n, 1 + slots] = rng.integers(1, space.n_codes + 1, 40)
    scores = linear.scores(rows)
    gains = linear.predict(changed) - linear.predict(rows)
    assert scores[n, slots, changed[n, 1 + slots]] - scores[n, slots, rows[n, 1 + slots]] == pytest.approx(
        gains, abs=1e-4 * np.ptp(gains)
    )
    assert np.ptp(gains) > 0.1
    with pytest.raises(PredictorError, match="supports the resolutions"):
        predictor.scores(sample_genomes(space, 2, rng, (48,)))


def test_what_stands_in_unused_slots_means_nothing() -> None:
    predictor = random_predictor(mobilenet_v3(1.2), (160, 176))
    padded = {**NET_A, "r": [176]}
    other = {**padded, "ks": [0 if i % 4 >= NET_A["d"][i // 4] else k for i, k in enumerate(NET_A["ks"])]}
    assert predictor.predict([padded])[0] == predictor.predict([other])[0]
    assert arch_from_dict(padded, predictor.space) == arch_from_dict(other, predictor.space)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("px", [96, 108, 116, 216, 240, 260])
def test_an_unsupported_resolution_is_refused(px: int) -> None:
    predictor = random_predictor(mobilenet_v3(1.2), tuple(range(112, 225, 16)))
    with pytest.raises(PredictorError, match=rf"supports the resolutions 112, 128, .*224, not {px}$"):
        predictor.predict([predictor.space.largest(224), predictor.space.largest(px)])


def test_genomes_of_another_space_are_refused() -> None:
    predictor = random_predictor(mobilenet_v3(1.2), (224,))
    with pytest.raises(ArchError, match=r"genomes of mbv3-w1\.2 are integers of shape"):
        predictor.predict(encode(proxyless(), [proxyless().largest(224)]))
    genomes = encode(predictor.space, [predictor.space.largest(224)])
    genomes[0, 3] = 12
    with pytest.raises(PredictorError, match=r"codes outside 0\.\.9"):
        predictor.predict(genomes)


def test_a_predictor_of_another_shape_is_refused() -> None:
    weights, biases = random_weights([50, 4, 1])
    with pytest.raises(PredictorError, match="50 inputs; tiny at 1 resolutions has 17"):
        PublishedAccuracyPredictor(tiny(), (24,), tuple(weights), tuple(biases))


def test_npz_round_trip_and_damage(tmp_path: Path) -> None:
    predictor = random_predictor(tiny(), (24, 32))
    predictor.write(tmp_path / "p.npz")
    again = read_acc_predictor(tmp_path / "p.npz")
    again.write(tmp_path / "q.bin")
    assert (again.space, again.resolutions, again.label) == (predictor.space, predictor.resolutions, predictor.label)
    genomes = sample_genomes(tiny(), 9, np.random.default_rng(0), (24, 32))
    assert (read_acc_predictor(tmp_path / "q.bin").predict(genomes) == predictor.predict(genomes)).all()

    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(FormatError, match="not an accuracy predictor of this project"):
        read_acc_predictor(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", schema=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match=r"pickled\.npz: not an npz file of arrays, or damaged"):
        read_acc_predictor(tmp_path / "pickled.npz")
    with pytest.raises(FormatError, match="No such file"):
        read_acc_predictor(tmp_path / "nothing.npz")


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_npz_is_one_clear_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    random_predictor(tiny(), (24, 32)).write(tmp_path / "p.npz")
    data = bytearray((tmp_path / "p.npz").read_bytes())
    for at in rng.integers(0, len(data), size=20):
        data[at] = rng.integers(256)
    (tmp_path / "p.npz").write_bytes(bytes(data[: rng.integers(1, len(data) + 1)]))
    with pytest.raises(OfaError) as caught:
        read_acc_predictor(tmp_path / "p.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.torch
def test_other_torch_files_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for name, content, message in (
        ("list", [1, 2], "no state dict; it needs names and tensors"),
        ("names", {"conv.weight": torch.zeros(3)}, "0.weight or layers.0.0.weight is expected"),
        ("nan", {"0.weight": torch.full((1, 128), float("nan")), "0.bias": torch.zeros(1)}, "not finite"),
        ("shape", {"0.weight": torch.zeros(1, 99), "0.bias": torch.zeros(1)}, "99 inputs; mbv3-w1.2 takes 120"),
        ("chain", {"0.weight": torch.zeros(4, 128), "2.weight": torch.zeros(1, 5)}, "do not fit each other"),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(OfaError, match=message):
            read_acc_predictor(tmp_path / name)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(FormatError, match="not a readable checkpoint"):
        read_acc_predictor(tmp_path / "text")


@pytest.mark.torch
@pytest.mark.parametrize("wrap", ["module.", "model", "state_dict", "beside"])
def test_a_predictor_in_the_wrappers_of_a_trainer(tmp_path: Path, wrap: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    state = {"0.weight": torch.tensor(rng.normal(size=(1, 128)), dtype=torch.float32), "0.bias": torch.zeros(1)}
    torch.save(state, tmp_path / "plain.pth")
    wrapped: dict[str, Any] = {wrap: state, "best_loss": np.float64(0.1)}
    if wrap == "module.":
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    elif wrap == "beside":
        wrapped = {"model": {"state_dict": state}, "optimizer": {"exp_avg.weight": torch.zeros(1)}}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    plain, other = (read_acc_predictor(tmp_path / f"{name}.pth") for name in ("plain", "wrapped"))
    genomes = sample_genomes(plain.space, 5, rng, (224,))
    assert np.array_equal(plain.predict(genomes), other.predict(genomes))


@pytest.mark.torch
def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"0.weight": Bomb()}, tmp_path / "p.pth")
    with pytest.raises(FormatError, match="not a readable checkpoint"):
        read_acc_predictor(tmp_path / "p.pth")
    assert not (tmp_path / "ran").exists()
