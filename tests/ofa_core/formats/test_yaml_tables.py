from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.arch_json import arch_from_dict, arch_to_dict
from ofa_core.blocks import BlockSpec
from ofa_core.errors import FormatError, MissingBlockError, OfaError, TableError
from ofa_core.formats.lut_keys import DIALECTS, block_of, format_keys, parse_key, sniff_dialect
from ofa_core.formats.yaml_tables import IQR_PER_STD, read_table, read_yaml_table, write_ofa_yaml
from ofa_core.genomes import decode, encode, sample_arch, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import get_space, mobilenet_v3, proxyless, tiny
from ofa_core.table import Context, Entry, LatencyTable

NET_A: dict[str, Any] = {
    "ks": [5, 3, 3, 3, 5, 3, 3, 3, 7, 7, 3, 3, 5, 5, 7, 3, 3, 3, 5, 3],
    "e": [3, 3, 3, 3, 4, 4, 3, 3, 6, 3, 4, 3, 4, 4, 4, 3, 6, 6, 6, 3],
    "d": [2, 2, 3, 4, 3],
}
NET_A_MS = {160: 18.35385376, 176: 21.89395994, 192: 24.73016685, 208: 29.64654121, 224: 33.10543572}

OFA_KEY = "expanded_conv-input:96x96x24-output:96x96x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0"
PROXYLESS_KEY = "expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0"
NSGA_KEY = "MBConv-input:100x100x16-output:50x50x24-expand:3-kernel:3-stride:2-idskip:0-se:0"


def synthetic(space: Space, resolutions: list[int], seed: int = 0, per_resolution: bool = False) -> LatencyTable:
    """A table of random numbers that covers `space`."""
    rng = np.random.default_rng(seed)
    entries = {}
    for px in resolutions:
        for block in space.all_blocks([px]):
            key = (px if per_resolution else None, block)
            entries[key] = Entry(float(rng.lognormal()), iqr_ms=float(rng.lognormal(-3)), n_samples=50)
    return LatencyTable(Context(device="synthetic"), entries)


# ---- golden numbers --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def note10(reference_data: Path) -> LatencyTable:
    unread: list[str] = []
    table = read_table(reference_data / "note10_lut", unread)
    assert unread == []
    return table


@pytest.mark.reference
def test_golden_sums_of_the_note10_table(note10: LatencyTable) -> None:
    space = mobilenet_v3(1.2)
    archs = [arch_from_dict({**NET_A, "r": [px]}, space) for px in NET_A_MS]
    assert note10.sum_ms(space, archs) == pytest.approx(list(NET_A_MS.values()), rel=1e-6)
    extremes = [space.largest(224), space.smallest(160)]
    assert note10.sum_ms(space, extremes) == pytest.approx([92.39803799, 9.89034651], rel=1e-6)
    dense = note10.dense(space, list(NET_A_MS))
    assert dense.sum(encode(space, archs)) == pytest.approx(list(NET_A_MS.values()), rel=1e-6)


@pytest.mark.reference
def test_the_note10_folder_covers_one_space_at_its_thirteen_resolutions(note10: LatencyTable) -> None:
    assert note10.context.device == "note10"
    assert note10.spaces() == (get_space("mbv3-w1.2"),)
    assert note10.resolutions(mobilenet_v3(1.2)) == (160, 164, 172, 176, 180, 184, 192, 196, 204, 208, 216, 220, 224)
    assert len(note10) == 13 * 96
    entry = note10.find(mobilenet_v3(1.2).blocks(mobilenet_v3(1.2).smallest(192))[0], 192)
    assert entry is not None
    assert entry.n_samples == 499
    assert entry.latency_ms == pytest.approx(0.72386, abs=1e-5)
    assert entry.iqr_ms == pytest.approx(0.01373 * IQR_PER_STD, rel=1e-3)


@pytest.mark.reference
def test_one_file_of_the_folder_reads_as_the_folder_does(note10: LatencyTable, reference_data: Path) -> None:
    one = read_yaml_table(reference_data / "note10_lut" / "192_lookup_table.yaml")
    assert one.context == note10.context
    assert one.entries == {key: entry for key, entry in note10.entries.items() if key[0] == 192}


@pytest.mark.reference
def test_a_missing_block_names_the_nearest_keys(note10: LatencyTable) -> None:
    space = mobilenet_v3(1.0)
    with pytest.raises(MissingBlockError, match=r"first_conv 192x192 3->16 at 192 px; its nearest: first_conv"):
        note10.sum_ms(space, [space.smallest(192)])


@pytest.mark.reference
def test_the_i7_part_is_understood_whole(reference_data: Path) -> None:
    unread: list[str] = []
    table = read_table(reference_data / "i7-8700K_lut_part.yaml", unread)
    assert unread == []
    assert table.context.device == "i7-8700K"
    assert {px for px, _ in table.entries} == {None}
    counts = {op: sum(b.op == op for _, b in table.entries) for op in ("mbconv", "first_conv", "avg_pool")}
    assert counts == {"mbconv": 2373, "first_conv": 50, "avg_pool": 9}
    # Every block is one of the two published spaces, so that their sums need nothing but the other 40 % of the keys.
    # Whole-net anchors (36.22 and 6.77 ms for w1.0, 45.93 and 8.02 for w1.2) bound what the part holds from above.
    for width, largest_ms, smallest_ms in ((1.0, 36.22, 6.77), (1.2, 45.93, 8.02)):
        space = mobilenet_v3(width)
        for arch, total_ms in ((space.largest(224), largest_ms), (space.smallest(224), smallest_ms)):
            found = [table.find(block) for block in space.blocks(arch)]
            assert 0.5 * total_ms < sum(e.latency_ms or 0.0 for e in found if e is not None) < total_ms
    known = {b for w in (1.0, 1.2) for b in mobilenet_v3(w).all_blocks(range(96, 257, 4))}
    assert {block for _, block in table.entries} <= known


# ---- dialects --------------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_ofa_keys_hold_channels_and_the_activation(tmp_path: Path) -> None:
    path = write(
        tmp_path / "phone_lut" / "192_lookup_table.yaml",
        f"{OFA_KEY}:\n  count: 3\n  mean: 1.5\n  std: 0.1\n"
        "Conv-input:192x192x3-output:96x96x24:\n  mean: 1e-02\n  count: 4\n  std: 0.0\n",
    )
    table = read_yaml_table(path)
    assert table.context.device == "phone"
    assert table.entries == {
        (192, BlockSpec("mbconv", 96, 96, 24, 24, 24, 3, 1, "relu", False, True)): Entry(
            1.5, iqr_ms=0.1 * IQR_PER_STD, n_samples=3
        ),
        (192, BlockSpec("first_conv", 192, 96, 3, 0, 24, 3, 2, "h_swish", False, False)): Entry(
            0.01, iqr_ms=0.0, n_samples=4
        ),
    }


def test_proxyless_keys_hold_ratios_and_the_pooling_is_part_of_the_logits(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mobile_trim.yaml",
        f"{PROXYLESS_KEY}: {{count: 9, mean: 2.0, var: 0.04}}\n"
        "Conv-input:224x224x3-output:112x112x32: {mean: 1.0}\n"
        "Conv_1-input:7x7x320-output:7x7x1280: {mean: 3.0}\n"
        "Logits-input:7x7x1280-output:1000: {mean: 4.0}\n",
    )
    table = read_table(path)
    assert table.entries == {
        (None, BlockSpec("mbconv", 112, 56, 16, 48, 24, 5, 2, "relu6", False, False)): Entry(
            2.0, iqr_ms=0.2 * IQR_PER_STD, n_samples=9
        ),
        (None, BlockSpec("first_conv", 224, 112, 3, 0, 32, 3, 2, "relu6", False, False)): Entry(1.0),
        (None, BlockSpec("final_expand", 7, 7, 320, 0, 1280, 1, 1, "relu6", False, False)): Entry(3.0),
        (None, BlockSpec("avg_pool", 7, 1, 1280, 0, 1280, 0, 1, "none", False, False)): Entry(0.0),
        (None, BlockSpec("classifier", 1, 1, 1280, 0, 1000, 1, 1, "none", False, False)): Entry(4.0),
    }


def test_nsganetv2_keys_take_their_activation_from_the_space(tmp_path: Path) -> None:
    path = write(
        tmp_path / "cpu.yaml",
        f"{NSGA_KEY}:\n  mean: 0.5\n  var: 3.5e-07\n"
        "MBConv-input:14x14x80-output:14x14x112-expand:6-kernel:7-stride:1-idskip:0-se:1: {mean: 1, var: 0}\n"
        "MBConv-input:112x112x24-output:112x112x24-expand:1-kernel:3-stride:1-idskip:1-se:0: {mean: 2, var: 0}\n"
        "final_expand_layer-input:7x7x160-output:7x7x960: {mean: 1, var: 0}\n"
        "feature_mix_layer-input:1x1x960-output:1x1x1280: {mean: 1, var: 0}\n"
        "classifier-input:1280-output:1000: {mean: 1, var: 0}\n"
        "MBConv-input:14x14x999-output:14x14x112-expand:6-kernel:7-stride:1-idskip:0-se:1: {mean: 1, var: 0}\n",
    )
    unread: list[str] = []
    table = read_table(path, unread)
    assert [b.act for _, b in table.entries] == ["relu", "h_swish", "relu", "h_swish", "none", "h_swish", "none"]
    assert [b.op for _, b in table.entries][3:] == ["final_expand", "avg_pool", "feature_mix", "classifier"]
    assert table.latency_ms(BlockSpec("avg_pool", 7, 1, 960, 0, 960, 0, 1, "none", False, False)) == 0
    assert unread == ["MBConv-input:14x14x999-output:14x14x112-expand:6-kernel:7-stride:1-idskip:0-se:1"]


def test_json_with_ofa_keys(tmp_path: Path) -> None:
    record = {"Conv-input:160x160x3-output:80x80x24": {"count": 498, "mean": 96.15, "std": 24.6}}
    path = write(tmp_path / "latency_table@jetson" / "160_lookup_table.json", json.dumps(record, indent="\t"))
    table = read_table(path)
    assert table.context.device == "jetson"
    assert [(px, e.latency_ms) for (px, _), e in table.entries.items()] == [(160, 96.15)]


@pytest.mark.parametrize("header", ["", "key,ms\n"])
def test_key_ms_lines(tmp_path: Path, header: str) -> None:
    path = write(
        tmp_path / "latency.csv",
        f"{header}112x112x32-112x112x16-expand:1-kernel:3-stride:1,4.5\n"
        f"14x14x80-14x14x80-expand:3-kernel:7-stride:1,2.25\n{PROXYLESS_KEY},1.0\n",
    )
    assert {b.label(): e.latency_ms for (_, b), e in read_table(path).entries.items()} == {
        "mbconv 112x112 32->32->16 k3 s1 relu6": 4.5,
        "mbconv 14x14 80->240->80 k7 s1 relu6 +": 2.25,
        "mbconv 112x112 16->48->24 k5 s2 relu6": 1.0,
    }


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_key_mean_std_tables(tmp_path: Path, mark: str) -> None:
    for header, scale in (("key,mean,std,count", 1.0), ("key,latency (us),std (us)", 1e-3), ("layer,mean_s", 1e3)):
        names = header.split(",")
        rows = [
            names,
            *([key, "4", "2", "7"][: len(names)] for key in (PROXYLESS_KEY, PROXYLESS_KEY.replace("5", "3"))),
        ]
        path = write(tmp_path / "latency.csv", "".join(f"{mark.join(row)}\n" for row in rows))
        first, second = read_table(path).entries.values()
        assert first == second
        assert first.latency_ms == pytest.approx(4 * scale)
        assert first.iqr_ms == (None if len(names) < 3 else pytest.approx(2 * 1.349 * scale))
        assert first.n_samples == (7 if len(names) == 4 else 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"key,latency\n{PROXYLESS_KEY},1\n", "column 'latency' names no unit"),
        (f"{PROXYLESS_KEY},1,2\n", "3 columns without a header; key,mean,std is expected"),
        (f"key,std\n{PROXYLESS_KEY},1\n", "no column mean"),
        (f"key,mean,ms\n{PROXYLESS_KEY},1,2\n", "two columns of mean"),
        (f"key,mean,std\n{PROXYLESS_KEY},1\n", "line 2: .* is not a `key,ms` or `key,mean,std` line"),
        (f"key;mean\n{PROXYLESS_KEY};1,5\n", "mean of .* is '1,5'; a number is expected"),
    ],
)
def test_key_tables_that_are_not_clear(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_table(write(tmp_path / "latency.csv", text))


def test_the_kind_shows_in_the_content_not_in_the_name(tmp_path: Path) -> None:
    ours = synthetic(tiny(), [24])
    ours.write(tmp_path / "ours.yaml")
    assert read_table(tmp_path / "ours.yaml").entries == ours.entries
    theirs = write(tmp_path / "theirs.txt", f"{OFA_KEY}: 1.5\n")
    assert [e.latency_ms for e in read_table(theirs).entries.values()] == [1.5]


@pytest.mark.parametrize("key", [OFA_KEY, PROXYLESS_KEY, NSGA_KEY, "Conv_2-input:1x1x1152-output:1x1x1536"])
def test_a_key_is_parsed_with_or_without_a_last_colon(key: str) -> None:
    assert parse_key(key) is not None
    assert parse_key(f"{key}:") == parse_key(key)


@given(st.sampled_from(["mbv3-w1.0", "mbv3-w1.2", "proxyless-w1.3", "tiny"]), st.integers(0, 10**6))
def test_every_block_survives_its_key(name: str, seed: int) -> None:
    space = get_space(name)
    arch = sample_arch(space, np.random.default_rng(seed))
    dialect = "ofa" if space.feature_c else "proxyless"
    for block in space.blocks(arch):
        text = format_keys(block, dialect)
        if text is None:
            assert (dialect, block.op) == ("proxyless", "avg_pool")
            continue
        key = parse_key(text)
        assert key is not None
        channels = dialect == "ofa"
        assert block_of(key, dialect, channels) == block


@given(st.text(max_size=200))
def test_any_text_is_a_key_or_none(text: str) -> None:
    key = parse_key(text)
    assert key is None or sniff_dialect([key]) in (*DIALECTS, None)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no entries"),
        ("just words", "something else"),
        ("- 1\n- 2\n", "something else"),
        ("hello: {mean: 1}\n", "'hello' is not a key of a latency table; accepted are"),
        (f"{OFA_KEY}: {{count: 3}}\n", "has no mean"),
        (f"{OFA_KEY}: {{mean: fast}}\n", "mean of .* is 'fast'; a number"),
        (f"{OFA_KEY}: {{mean: .nan}}\n", "'.nan'; a number"),
        (f"{OFA_KEY}: {{mean: nan}}\n", "'nan'; a number from 0 to 1e"),
        (f"{OFA_KEY}: {{mean: -1.0}}\n", "'-1.0'; a number from 0 to 1e"),
        (f"{OFA_KEY}: {{mean: 1.0, std: -1}}\n", "std of"),
        (f"{OFA_KEY}: {{mean: 1.0}}\n{OFA_KEY}: {{mean: 2.0}}\n", "is repeated"),
        (f"{OFA_KEY}: {{mean: 1.0}}\n'{OFA_KEY}:': {{mean: 2.0}}\n", "name the same block"),
        (f"a: &x {{mean: 1.0}}\n{OFA_KEY}: *x\n", "anchors and aliases"),
        ("!!python/object/apply:os.system ['true']: {mean: 1}\n", "line 1"),
        (f"{OFA_KEY}: {{mean: [1]}}\n", "something else"),
        (f"{OFA_KEY}: {{mean: {{mean: 1}}}}\n", "something else"),
        (f"{OFA_KEY}: {{mean: 1.0\n", "line 2: not YAML"),
        (f"{OFA_KEY}:\n\tmean: 1.0\n", "not YAML"),
        ("MBConv-input:14x14x999-output:14x14x9-expand:6-kernel:7-stride:1-idskip:0-se:1: 1\n", "names a known block"),
        ("14x14x80-14x14x80-expand:3-kernel:7-stride:1,6.03findstr04\n", "'6.03findstr04'; a number"),
    ],
)
def test_an_invalid_table_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "table.yaml", text)
    with pytest.raises(OfaError, match=message) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_too_large_or_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match="No such file"):
        read_table(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="not a text file"):
        read_table(tmp_path / "binary.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"no <R>_lookup_table\.yaml"):
        read_table(tmp_path / "empty")
    monkeypatch.setattr("ofa_core.formats.lut_text.MAX_FILE_BYTES", 10)
    with pytest.raises(FormatError, match="too many"):
        read_table(write(tmp_path / "big.yaml", "x: 1\n" * 10))


def test_a_name_that_contradicts_the_content_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "224_lookup_table.yaml", "Conv-input:192x192x3-output:96x96x24: {mean: 1.0}\n")
    with pytest.raises(FormatError, match="named for 224 px, but its Conv key is for 192 px"):
        read_table(path)


def test_a_billion_laughs_file_is_refused_at_once(tmp_path: Path) -> None:
    levels = [f"l{i}: &l{i} {{{', '.join(f'k{j}: *l{i - 1}' for j in range(9))}}}" for i in range(1, 9)]
    path = write(tmp_path / "bomb.yaml", "\n".join(["l0: &l0 lol", *levels]))
    with pytest.raises(FormatError, match="anchors and aliases"):
        read_table(path)


# ---- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [tiny(), mobilenet_v3(1.0), proxyless(1.3)], ids=lambda s: s.name)
@pytest.mark.parametrize("per_resolution", [True, False])
def test_a_written_folder_reads_back_to_full_precision(tmp_path: Path, space: Space, per_resolution: bool) -> None:
    pixels = [24, 32] if space.name == "tiny" else [160, 176]
    table = synthetic(space, pixels, per_resolution=per_resolution)
    files = write_ofa_yaml(table, tmp_path / "out", space, pixels)
    assert [f.name for f in files] == [f"{px}_lookup_table.yaml" for px in pixels]
    again = read_table(tmp_path / "out")
    assert again.resolutions(space) == tuple(pixels)
    genomes = sample_genomes(space, 20, np.random.default_rng(1), pixels)
    expected = table.sum_ms(space, decode(space, genomes))
    assert again.sum_ms(space, decode(space, genomes)) == pytest.approx(expected, rel=1e-14)
    if space.feature_c:
        for (px, block), entry in again.entries.items():
            source = table.find(block, px)
            assert source is not None
            assert (entry.latency_ms, entry.n_samples) == (source.latency_ms, source.n_samples)
            assert entry.iqr_ms == pytest.approx(source.iqr_ms, rel=1e-15)


def test_an_incomplete_table_writes_nothing(tmp_path: Path) -> None:
    table = synthetic(tiny(), [24])
    with pytest.raises(MissingBlockError, match="needs every block of tiny"):
        write_ofa_yaml(table, tmp_path / "out", tiny(), [24, 28])
    assert not (tmp_path / "out").exists()


def test_a_block_beyond_the_form_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    odd = replace(tiny(), base_act="relu6")
    with pytest.raises(TableError, match="no key for mbconv"):
        write_ofa_yaml(synthetic(odd, [24]), tmp_path, odd, [24])


def test_small_numbers_are_numbers_to_other_yaml_readers(tmp_path: Path) -> None:
    table = synthetic(tiny(), [24])
    table = LatencyTable(table.context, {key: Entry(1e-05, iqr_ms=1e-20) for key in table.entries})
    (path,) = write_ofa_yaml(table, tmp_path, tiny(), [24])
    for record in yaml.safe_load(path.read_text()).values():
        assert record == {"count": 0, "mean": 1e-05, "std": pytest.approx(1e-20 / IQR_PER_STD)}


# ---- the authors' readers --------------------------------------------------------------------------------------------


@pytest.fixture
def authors(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The latency readers of the package `ofa` as published, but for a YAML loader, and its imports stubbed.

    Their modules hang below packages that import torchvision and gdown; so each is loaded from its file.
    """
    import importlib.util

    found = importlib.util.find_spec("ofa")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package ofa is not installed (pip install --no-deps ofa)")
    root = Path(next(iter(found.submodule_search_locations)))
    stub = types.ModuleType("ofa.utils")
    for name in ("download_url", "make_divisible", "MyNetwork"):
        setattr(stub, name, None)
    monkeypatch.setitem(sys.modules, "ofa", types.ModuleType("ofa"))
    monkeypatch.setitem(sys.modules, "ofa.utils", stub)

    def load(file: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"authors_{Path(file).stem}", root / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.__dict__["yaml"] = types.SimpleNamespace(load=yaml.safe_load)
        return module

    nas = load("nas/efficiency_predictor/latency_lookup_table.py")
    return types.SimpleNamespace(
        mbv3=nas.MBv3LatencyTable,
        proxyless=nas.ProxylessNASLatencyTable,
        tutorial=load("tutorial/latency_table.py").LatencyEstimator,
    )


def test_the_tutorial_reader_sums_our_files_alike(tmp_path: Path, authors: types.SimpleNamespace) -> None:
    space = mobilenet_v3(1.2)
    table = synthetic(space, [192])
    (path,) = write_ofa_yaml(table, tmp_path, space, [192])
    reader = authors.tutorial(url=str(path))
    for arch in decode(space, sample_genomes(space, 30, np.random.default_rng(2), [192])):
        theirs = reader.predict_network_latency_given_spec(arch_to_dict(arch, space))
        assert theirs == pytest.approx(float(table.sum_ms(space, [arch])[0]), rel=1e-13)
