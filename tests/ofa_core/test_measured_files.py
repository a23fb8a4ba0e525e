from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_to_dict
from ofa_core.errors import FormatError, OfaError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_columns import LATENCY, TOP1
from ofa_core.measured_files import MeasuredFile, write_measured
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3, tiny

SPACE = mobilenet_v3(1.0)
HEADER = "Sub-network,Latency (ms),Top-1 Acc (%)"


def some_archs(space: Space = SPACE, n: int = 6) -> list[Arch]:
    return decode(space, sample_genomes(space, n, np.random.default_rng(4)))


def dictionary_csv(archs: list[Arch], header: str = HEADER, size: str = "r", points: float = 1) -> str:
    lines = [header]
    for i, arch in enumerate(archs):
        record = arch_to_dict(arch, SPACE)
        record[size] = record.pop("r")
        lines.append(f'"{record}",{22.2 + i},{points * (76.4 + i / 8)}')
    return "\n".join(lines) + "\n"


def test_a_column_of_dictionaries_with_two_measured_values(tmp_path: Path) -> None:
    archs, path = some_archs(), tmp_path / "results.csv"
    for size in ("r", "image_size"):
        path.write_text(dictionary_csv(archs, size=size))
        file = MeasuredFile.read(path)
        assert file.spaces() == ()
        for quantity, values in ((LATENCY, [22.2 + i for i in range(6)]), (TOP1, [76.4 + i / 8 for i in range(6)])):
            rows = file.select(SPACE, file.column(quantity=quantity))
            assert decode(SPACE, rows.genomes) == archs
            assert rows.values == pytest.approx(values)
    with pytest.raises(FormatError, match="does not contain a space; give one with --space"):
        file.only_space()


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_separators_and_lists_of_other_tools(tmp_path: Path, mark: str) -> None:
    archs, path = some_archs(), tmp_path / "a.csv"
    lines = [mark.join(["space", "ks", "e", "d", "image_size", "latency_us"])]
    for i, arch in enumerate(archs):
        record = arch_to_dict(arch, SPACE)
        lists = [" ".join(map(str, record[name])) for name in ("ks", "e", "d")]
        lines.append(mark.join([SPACE.name, *lists, str(arch.resolution_px), str(1000 * (i + 1))]))
    path.write_text("\n".join(lines))
    file = MeasuredFile.read(path)
    assert file.only_space() == SPACE
    rows = file.select(SPACE, file.column())
    assert decode(SPACE, rows.genomes) == archs
    assert rows.values == pytest.approx([1, 2, 3, 4, 5, 6])


def test_values_that_cannot_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    def message(text: str, wanted: str | None = None) -> str:
        path.write_text(text)
        file = MeasuredFile.read(path)
        with pytest.raises(OfaError) as caught:
            file.select(SPACE, file.column(wanted))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    good = dictionary_csv(some_archs())
    assert "line 2: Latency (ms) is '0'; a number > 0 is expected" in message(good.replace(",22.2,", ",0,"))
    assert "line 2: Latency (ms) is ''; a number > 0 is expected" in message(good.replace(",22.2,", ",,"))
    assert "line 2: Latency (ms) is '22,2'; a number" in message(good.replace(",22.2,", ',"22,2",'))
    fractions = dictionary_csv(some_archs(), points=0.01)
    assert "is at most 0.77025 as percent" in message(fractions, "top1")
    assert "if these are fractions, give --column 'acc=fraction'" in message(
        dictionary_csv(some_archs(), "arch,x,acc", points=0.01), "acc=%"
    )
    percent = dictionary_csv(some_archs(), "arch,latency_ms,top1_fraction")
    assert "line 2: top1_fraction is 76.4 as a fraction; at most 100 %" in message(percent, "top1_fraction")


def test_a_file_without_architectures_is_refused_with_the_expected_form(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("network,latency_ms\nresnet50,3\n")
    assert MeasuredFile.find(path) is None
    with pytest.raises(FormatError, match=r"columns ks, e, d and r are expected, .* has 'network, latency_ms'"):
        MeasuredFile.read(path)
    path.write_text(dictionary_csv(some_archs(), "a,b,latency_ms").replace(",22.2,", ",\"{'ks': 3, 'e': 3, 'd': 2}\","))
    with pytest.raises(FormatError, match="several columns hold architectures: 'a', 'b'"):
        MeasuredFile.read(path)
    path.write_text("ks,e,d,r,latency_ms\n")
    with pytest.raises(FormatError, match="no rows"):
        MeasuredFile.read(path)
    path.write_text("ks,e,d,latency_ms\n3,3,2,1.5\n")
    file = MeasuredFile.read(path)
    with pytest.raises(FormatError, match="line 2: the architecture has no resolution"):
        file.select(SPACE, file.column())


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("arch,r", "\"{'ks': 3, 'e': 3, 'd': 2, 'r': [160]}\",192", "r is '192' in its column and '.160.' in arch"),
        ("arch,image_size", "\"{'ks': 3, 'e': 3, 'd': 2, 'r': 160}\",192", "2 input sizes where one is expected"),
        ("arch,space", "\"{'ks': 3, 'e': 3, 'd': 2, 'r': 160, 'space': 'tiny'}\",mbv3-w1.0", "space is 'mbv3-w1.0' in"),
        ("ks,e,d,r,image_size", "3,3,2,160,192", "2 input sizes where one is expected"),
        ("ks,e,d,r,w", '3,3,"[2,2,2,2,2]",160,1.2', "no row of space mbv3-w1.0; its rows are of mbv3-w1.2"),
        ("arch,w", "\"{'ks': 3, 'e': 3, 'd': [2, 2, 2, 2, 2], 'r': 160}\",1.2", "its rows are of mbv3-w1.2"),
    ],
)
def test_columns_that_contradict_each_other(tmp_path: Path, header: str, row: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header},latency_ms\n{row},1\n")
    file = MeasuredFile.read(path)
    with pytest.raises(OfaError, match=message):
        file.select(SPACE, file.column())


def test_a_width_or_a_size_in_a_column_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    record = "\"{'ks': 3, 'e': 3, 'd': [2, 2, 2, 2, 2], 'r': None}\""
    path.write_text(f"arch,w,img_size,latency_ms\n{record},1.2,160,5\n{record},1.2,[192],6\n")
    file = MeasuredFile.read(path)
    assert file.only_space() == mobilenet_v3(1.2)
    assert file.select(mobilenet_v3(1.2), file.column()).genomes[:, 0].tolist() == [160, 192]


def test_rows_of_several_spaces_are_selected_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('space,ks,e,d,r,top1\ntiny,3,3,1,24,50\n"mbv3-w1.0",3,3,2,160,70\ntiny,5,3,1,24,55\n')
    file = MeasuredFile.read(path)
    assert file.spaces() == (SPACE, tiny())
    rows = file.select(tiny(), file.column())
    assert rows.values.tolist() == [50, 55]
    assert rows.indices == (0, 2)
    with pytest.raises(FormatError, match=r"networks of mbv3-w1.0, tiny; give one with --space"):
        file.only_space()
    with pytest.raises(FormatError, match=r"no row of space mbv3-w1.2; its rows are of mbv3-w1.0, tiny"):
        file.select(mobilenet_v3(1.2), file.column())


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    archs, source, copy = some_archs(), tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_text(dictionary_csv(archs, "config,latency (s),acc (fraction)", points=0.01))
    file = MeasuredFile.read(source)
    assert write_measured(copy, file, SPACE, file.columns()) == (6, [])
    again = MeasuredFile.read(copy)
    assert again.header == ("space", "ks", "e", "d", "r", "latency_ms", "top1", "space_digest", "space_definition")
    assert again.only_space() == SPACE
    for quantity in (LATENCY, TOP1):
        old, new = (
            file.select(SPACE, file.column(quantity=quantity)),
            again.select(SPACE, again.column(quantity=quantity)),
        )
        assert np.array_equal(old.genomes, new.genomes)
        assert new.values == pytest.approx(old.values)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "wanted", "first"),
    [
        ("ofa_gpu_latency.csv", "lat_ms:2080ti_b1", 12.08194),
        ("ofa_mbv3_w1.0_top1_multires.csv", None, 68.624),
        ("ofa_mbv3_w1.0_imagenet_top1.csv", None, 75.448),
    ],
)
def test_published_files(reference_data: Path, name: str, wanted: str | None, first: float) -> None:
    file = MeasuredFile.read(reference_data / name)
    rows = file.select(SPACE, file.column(wanted))
    assert rows.values[0] == pytest.approx(first)
    assert len(rows.genomes) == len((reference_data / name).read_text().splitlines()) - 1
    if name == "ofa_gpu_latency.csv":
        macs = [float(fields[file.header.index("macs_w1.0")]) for _, fields in file.rows]
        assert [SPACE.macs(arch) for arch in decode(SPACE, rows.genomes[:50])] == macs[:50]
        with pytest.raises(FormatError, match="no column of measured values"):
            file.column()


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ((1, 1.1, 0.99), None),
        ((1, 1.5, 1), "the rows of 1 network differ in latency_ms by up to 50 %; models are fitted to their mean"),
    ],
)
def test_rows_of_a_network_that_contradict_each_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, factors: tuple[float, ...], message: str | None
) -> None:
    first, second = some_archs(n=2)
    lines = ["space;arch;latency_ms;top1"]
    rows = [*((first, 10 * factor, 40 * factor) for factor in factors), (second, 20.0, 71.0)]
    lines += [f'{SPACE.name};"{arch_to_dict(arch, SPACE)}";{ms};{top1}' for arch, ms, top1 in rows]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    file = MeasuredFile.read(tmp_path / "a.csv")
    assert len(file.select(SPACE, file.column(quantity=LATENCY)).values) == 4
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == (
        [] if message is None else [message]
    )
    caplog.clear()
    file.select(SPACE, file.column(quantity=TOP1))
    points = 40 * (max(factors) - min(factors))
    assert f"differ in top1 by up to {points:.3g} points" in caplog.text


def test_equal_rows_of_a_network_are_no_contradiction(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.csv").write_text(dictionary_csv(some_archs(n=1) * 6))
    file = MeasuredFile.read(tmp_path / "a.csv")
    file.select(SPACE, file.column(quantity=TOP1))  # .6 points apart
    assert not caplog.records
