"""Every dialect of the OFA dictionary, and files with architectures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.arch import Arch
from ofa_core.arch_json import (
    ARCH_SCHEMA,
    RESOLUTION_FIELDS,
    arch_from_dict,
    arch_to_dict,
    read_arch_dict,
    resolution_of,
    write_arch,
)
from ofa_core.errors import ArchError, FormatError
from ofa_core.genomes import sample_arch
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space, mobilenet_v3, proxyless, tiny

spaces = st.sampled_from([get_space(name) for name in SPACE_NAMES])
seeds = st.integers(0, 2**32 - 1)


def draw(space: Space, seed: int) -> Arch:
    return sample_arch(space, np.random.default_rng(seed))


# ---- every public dialect --------------------------------------------------------------------------------------------


@given(spaces, seeds)
def test_the_ofa_dict_round_trip(space: Space, seed: int) -> None:
    arch = draw(space, seed)
    record = arch_to_dict(arch, space)
    assert list(record) == ["wid", "ks", "e", "d", "r"]
    assert (record["wid"], record["r"]) == (None, [arch.resolution_px])
    assert (len(record["ks"]), len(record["e"]), len(record["d"])) == (space.n_slots, space.n_slots, len(space.stages))
    assert arch_from_dict(json.loads(json.dumps(record)), space) == arch


@given(spaces, seeds, st.integers(0, 9))
def test_what_stands_in_unused_slots_means_nothing(space: Space, seed: int, filling: int) -> None:
    arch = draw(space, seed)
    record = arch_to_dict(arch, space)
    position = np.arange(space.n_slots) - np.asarray(space.stage_starts)[list(space.slot_stages)]
    unused = position >= np.asarray(arch.depths)[list(space.slot_stages)]
    for name, smallest in (("ks", space.kernels[0]), ("e", space.expands[0])):
        assert [v for v, gone in zip(record[name], unused, strict=True) if gone] == [smallest] * int(unused.sum())
        record[name] = [filling if gone else v for v, gone in zip(record[name], unused, strict=True)]
    assert arch_from_dict(record, space) == arch


@given(spaces, seeds)
def test_the_compact_form_with_a_width(space: Space, seed: int) -> None:
    arch = draw(space, seed)
    record: dict[str, Any] = {"ks": list(arch.kernels), "e": list(arch.expands), "d": list(arch.depths)}
    width = space.name.rpartition("-w")[2]
    record |= {"r": arch.resolution_px} | ({"w": float(width)} if width != space.name else {})
    assert arch_from_dict(record, space) == arch


@given(spaces, seeds)
def test_the_form_of_ofa_nas_with_image_size_and_zeros(space: Space, seed: int) -> None:
    arch = draw(space, seed)
    record = arch_to_dict(arch, space)
    del record["r"], record["wid"]
    assert arch_from_dict({**record, "image_size": arch.resolution_px}, space) == arch
    assert arch_from_dict(record, space, resolution_px=arch.resolution_px) == arch


def test_scalars_hold_for_every_block() -> None:
    space = mobilenet_v3()
    assert arch_from_dict({"ks": 7, "e": 6, "d": 4, "r": 224}, space) == space.largest(224)
    assert arch_from_dict({"ks": 3, "e": [3], "d": 2, "r": [160]}, space) == space.smallest(160)
    assert arch_from_dict({"ks": 5.0, "e": 4.0, "d": 3, "r": 192}, space) == space.uniform(5, 4, 3, 192)


def test_a_stage_with_one_depth_ignores_d() -> None:
    space = proxyless()
    record = {"ks": 3, "e": 3, "d": [2, 2, 2, 2, 2, 2], "r": 160}
    assert arch_from_dict(record, space).depths == (2, 2, 2, 2, 2, 1)
    assert arch_from_dict({**record, "d": 2}, space) == space.smallest(160)


def test_the_dictionary_may_sit_in_an_arch_field() -> None:
    space = tiny()
    arch = space.largest(32)
    assert arch_from_dict({"arch": arch_to_dict(arch, space), "latency_ms": 1.5}, space) == arch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": None}, "ks holds a NoneType; whole numbers"),
        ({"ks": "3"}, "ks holds '3'; whole numbers"),
        ({"ks": [3] * 7}, r"ks has 7 values; expected 4 \(every slot\), 2 \(the active blocks\) or one number"),
        ({"e": [3, 4]}, "expand ratio 4 in active block 2 of tiny is not allowed; choose one of 3, 6"),
        ({"e": [3, float("nan")]}, "e holds nan; whole numbers"),
        ({"e": [True, 3]}, "e holds True; whole numbers"),
        ({"e": [3, 10**30]}, "e holds a int of 20 digits or more"),
        ({"d": [1]}, None),
        ({"d": [1, 1, 1]}, "d has 3 stages; tiny has 2"),
        ({"d": [1, 5]}, r"d\[1\] is 5; tiny takes 1, 2 there"),
        ({"r": [24, 28]}, r"2 input sizes where one is expected \(r 24, 28\); choose one with --resolution PX"),
        ({"image_size": 28}, r"2 input sizes where one is expected \(r 24; image_size 28\)"),
        ({"r": None, "img_size": [24], "resolution": 28}, r"\(img_size 24; resolution 28\)"),
        ({"r": []}, "r is an empty list; an input size"),
        ({"r": "24"}, "r holds '24'; whole numbers"),
        ({"r": None}, "the architecture has no resolution"),
        ({"r": 25}, "resolution 25 px is not allowed; choose a multiple of 4"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str | None) -> None:
    record = {"ks": [3, 3], "e": [3, 3], "d": [1, 1], "r": [24], **change}
    if message is None:
        assert arch_from_dict(record, tiny()).depths == (1, 1)
        return
    with pytest.raises(ArchError, match=message):
        arch_from_dict(record, tiny())


def test_missing_fields_and_other_widths() -> None:
    with pytest.raises(ArchError, match="this one has no e, d"):
        arch_from_dict({"ks": 3}, tiny())
    record = {"ks": 3, "e": 3, "d": 2, "r": 160}
    for field in ("w", "wid"):
        with pytest.raises(ArchError, match=r"w is 1\.2, the width of mbv3-w1\.2; the space is mbv3-w1\.0"):
            arch_from_dict({**record, field: [1.2]}, mobilenet_v3(1.0))
    with pytest.raises(ArchError, match="w is a int of 20 digits or more; a width from"):
        arch_from_dict({**record, "w": 10**400}, mobilenet_v3(1.0))
    with pytest.raises(ArchError, match=r"w is '1\.0'; a width from"):
        arch_from_dict({**record, "w": "1.0"}, mobilenet_v3(1.0))
    with pytest.raises(ArchError, match=r"w is 1, wid is 1\.2; one width is expected"):
        arch_from_dict({**record, "w": 1.0, "wid": 1.2}, mobilenet_v3(1.0))
    with pytest.raises(ArchError, match="w is 1, but tiny has no width; remove w"):
        arch_from_dict({"ks": 3, "e": 3, "d": 1, "r": 24, "w": 1}, tiny())


# ---- the input size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", RESOLUTION_FIELDS)
@pytest.mark.parametrize("size", [28, [28], (28, 28), 28.0, np.int64(28), np.array([28])])
def test_every_name_of_the_input_size_is_read(field: str, size: Any) -> None:
    arch = tiny().smallest(28)
    record = {**arch_to_dict(arch, tiny()), "r": None, field: size}
    assert arch_from_dict(record, tiny()) == arch
    assert arch_from_dict({"arch": {**record, field: None}, field: size}, tiny()) == arch


def test_the_input_size_outside_an_arch_field_must_agree() -> None:
    record = {"arch": arch_to_dict(tiny().smallest(28), tiny()), "image_size": 32}
    with pytest.raises(ArchError, match=r"2 input sizes where one is expected \(r 28; image_size 32\)"):
        arch_from_dict(record, tiny())


def test_a_size_that_the_caller_names_replaces_the_files() -> None:
    record = {**arch_to_dict(tiny().smallest(28), tiny()), "image_size": [24, 32]}
    assert arch_from_dict(record, tiny(), resolution_px=32) == tiny().smallest(32)
    assert arch_from_dict({"ks": 5, "e": 6, "d": 2}, tiny(), resolution_px=24) == tiny().largest(24)


def test_several_records_speak_of_one_size() -> None:
    assert resolution_of({}, {"image_size": None}) is None
    assert resolution_of({"resolution": 176}, {"image_size": [176]}) == 176
    with pytest.raises(ArchError, match=r"\(resolution 176; image_size 224\)"):
        resolution_of({"resolution": 176}, {"image_size": 224})
    with pytest.raises(ArchError, match=r"4 input sizes .*\(image_size 128, 160, 192, 224\)"):
        resolution_of({"image_size": [128, 160, 192, 224]})


# ---- the space that a record names -----------------------------------------------------------------------------------


# ---- files -----------------------------------------------------------------------------------------------------------


@given(seeds)
def test_a_written_file_reads_back(seed: int) -> None:
    import tempfile

    space = tiny()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arch.json"
        write_arch(path, draw(space, seed), space)
        record = read_arch_dict(path)
    assert list(record) == ["schema", "space", "wid", "ks", "e", "d", "r", "space_digest"]
    assert (record["schema"], record["space"]) == (ARCH_SCHEMA, "tiny")
    assert arch_from_dict(record, space) == draw(space, seed)


@pytest.mark.parametrize(
    "text",
    [
        "{'ks': [np.int64(3), np.int64(3)], 'e': [3, 3], 'd': [1, 1], 'r': [24]}",
        "{'ks': array([3, 3]), 'e': np.array([3, 3], dtype=int32), 'd': (1, 1), 'r': numpy.float32(24.0)}",
        "{'ks': tensor([3, 3]), 'e': torch.tensor(3), 'd': 1, 'r': np.array([np.int16(24)])}",
    ],
)
def test_a_dictionary_as_numpy_prints_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert arch_from_dict(read_arch_dict(tmp_path / "a.txt"), tiny()) == tiny().smallest()


def test_a_dictionary_as_dynas_t_prints_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("{'wid': None, 'ks': [3, 3], 'e': [3, 3], 'd': [1, 1], 'r': [24]}\n")
    assert arch_from_dict(read_arch_dict(tmp_path / "a.txt"), tiny()) == tiny().smallest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "holds a list; an architecture is a dictionary"),
        ("hello", "neither JSON nor a dictionary"),
        ("__import__('os')", "neither JSON nor a dictionary"),
        ("{'ks': os.system('true')}", "neither JSON nor a dictionary"),
        ("{'ks': np.int64(os.getpid())}", "neither JSON nor a dictionary"),
        ("{'ks': np.int64(3, 4)}", "neither JSON nor a dictionary"),
        ('{"r": 224, "ks": 3, "r": 160}', "'r' is given twice; one value of it is expected"),
        ("{'r': 224, 'r': 160}", "'r' is given twice; one value of it is expected"),
        ("[" * 50_000, "neither JSON nor a dictionary"),
        ('{"ks": ' + "1" * 5000 + "}", "neither JSON nor a dictionary"),
        ('{"schema": 2}', "schema 2; this version reads schema 1"),
        (" " * 1_000_001, "too many for an architecture file"),
    ],
)
def test_a_file_that_holds_none_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "arch.json").write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        read_arch_dict(tmp_path / "arch.json")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="No such file"):
        read_arch_dict(tmp_path / "nothing")
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    with pytest.raises(FormatError, match="not a text file"):
        read_arch_dict(tmp_path / "bytes")
