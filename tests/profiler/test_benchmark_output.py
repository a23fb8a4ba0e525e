"""What the two benchmark_model programs print, in all known forms, and garbage."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.benchmark_output import (
    BenchmarkOutputError,
    BenchmarkSummary,
    parse_output,
    parse_result_file,
)

# The forms are those of the tools' sources and of public threads; the numbers of the first are tensorflow#73862's.
CLASSIC = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [1]
INFO: Graph: [/data/local/tmp/model.tflite]
INFO: Loaded model /data/local/tmp/model.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 16.9008
INFO: Initialized session in 12.75ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=37 first=14744 curr=15520 min=13164 max=18295 avg=13764.3 std=967
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=74 first=14850 curr=13315 min=13105 max=15765 avg=13520.2 std=470
INFO: Inference timings in us: Init: 12750, First inference: 14744, Warmup (avg): 13764.3, Inference (avg): 13520.2
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
INFO: Memory footprint delta from the start of the tool (MB): init=8.97656 overall=18.7227
"""
FIRST_FORM = BenchmarkSummary(13520.2, None, 13105, 15765, 470, 14744, 12750, 74)

LITERT = """\
INFO: [benchmark_litert_model.h:92] Signature name:       serving_default
INFO: [benchmark_litert_model.h:94] Model initialization: 3.73 ms
INFO: [benchmark_litert_model.h:96] Warmup (first):       1.04 ms
INFO: [benchmark_litert_model.h:98] Warmup (avg):         0.91 ms (10 runs)
INFO: [benchmark_litert_model.h:100] Inference (avg):      0.83 ms (100 runs)
INFO: [benchmark_litert_model.h:104] Inference (min):      0.81 ms
INFO: [benchmark_litert_model.h:106] Inference (max):      1.20 ms
INFO: [benchmark_litert_model.h:108] Inference (std):      0.05 ms
INFO: [benchmark_litert_model.h:110] Throughput:           107.11 MB/s
INFO: [benchmark_litert_model.h:120] Peak memory: 20.5 MB
"""


def test_the_classic_tool() -> None:
    assert parse_output(CLASSIC) == FIRST_FORM


def test_the_classic_tool_without_prefixes() -> None:
    assert parse_output(CLASSIC.replace("INFO: ", "")) == FIRST_FORM


def test_lines_with_more_statistics_than_today() -> None:
    text = "count=74 first=14850 curr=13315 min=13105 max=15765 avg=13520.2 std=470 median=13400 p5=13110 p95=1.51e4"
    summary = parse_output(text)
    assert (summary.mean_us, summary.median_us, summary.typical_us) == (13520.2, 13400, 13400)


def test_the_profiling_table_has_the_statistics_of_the_timed_runs() -> None:
    text = CLASSIC + "Timings (microseconds): count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929\n"
    assert parse_output(text).mean_us == 79732


@pytest.mark.parametrize(
    ("text", "mean", "init"),
    [
        ("Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9", 79760.9, 38467),
        ("Average inference timings in us: Warmup: 83235, Init: 38467, no stats: 79760.9", 79760.9, 38467),
        ("INFO: Inference timings in us: Init: 5, First inference: 7, Warmup (avg): 6, Inference (avg): 4.5", 4.5, 5),
    ],
)
def test_summaries_alone(text: str, mean: float, init: float) -> None:
    summary = parse_output(f"STARTING!\n{text}\n")
    assert (summary.mean_us, summary.init_us, summary.source) == (mean, init, "summary")


def test_litert_prefers_the_microseconds_of_the_shared_lines() -> None:
    shared = "INFO: count=100 first=1040 curr=830 min=812 max=1201 avg=832.4 std=51\n"
    assert parse_output(shared + LITERT).mean_us == 832.4
    assert parse_output(shared + LITERT).peak_memory_kb == 20992


def test_litert_in_milliseconds_as_the_last_resort() -> None:
    expected = BenchmarkSummary(830, None, 810, 1200, 50, 1040, 3730, 100, 20992, "milliseconds")
    got = parse_output(LITERT)
    assert got.source == "milliseconds"
    for field in ("mean_us", "min_us", "max_us", "std_us", "first_us", "init_us", "n_runs", "peak_memory_kb"):
        assert getattr(got, field) == pytest.approx(getattr(expected, field))


def test_an_impossible_number_of_runs_is_unknown() -> None:
    assert parse_output("INFO: count=1e999 first=1 curr=1 min=1 max=1 avg=13.5 std=0").n_runs is None
    digits = "9" * 5000
    assert parse_output(f"count={digits} avg=13.5 std=0").n_runs is None
    with pytest.raises(BenchmarkOutputError, match="reports an inference time of 3600000000000"):
        parse_output("count=3 avg=3600000000000 std=0")


def test_the_peak_of_the_classic_tool() -> None:
    text = CLASSIC + "INFO: Overall peak memory footprint (MB) via periodic monitoring: 33.25\n"
    assert parse_output(text).peak_memory_kb == 34048


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "printed no latency$"),
        ("ERROR: Failed to load model /x.tflite\nBenchmarking failed.\n", "no latency: ERROR: Failed to load model"),
        ("count=0 avg=1 std=2", "no latency"),
        ("count=5 first=1 avg=nan", "no latency"),
        ("count=5 first=1 avg=-3", "reports an inference time of -3.0 us"),
        ("count=5 first=1 avg=1e300", "reports an inference time of 1e[+]300 us"),
        ("count=5 avg=10 median=0", "reports a median of 0.0 us"),
        ("/system/bin/sh: ./benchmark_model: not executable: 64-bit ELF file", "no latency"),
        ("Inference (avg): quick ms", "no latency"),
    ],
)
def test_what_holds_no_latency(text: str, message: str) -> None:
    with pytest.raises(BenchmarkOutputError, match=message):
        parse_output(text)


@given(
    st.text(max_size=400) | st.lists(st.sampled_from(CLASSIC.split(" ") + LITERT.split(" ")), max_size=60).map(" ".join)
)
def test_any_text_is_a_latency_or_a_known_error(text: str) -> None:
    with contextlib.suppress(BenchmarkOutputError):
        assert 0 < parse_output(text).typical_us < 1e12


# ---- result files --------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def floats(**fields: float) -> bytes:
    return b"".join(varint(int(n[1:]) << 3 | 5) + struct.pack("<f", value) for n, value in fields.items())


def part(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


LATENCY = floats(f1=0.8324, f2=0.812, f3=1.201, f4=0.051, f5=0.8295, f6=0.813, f7=0.91, f8=3.73, f9=1.04, f10=0.91)
MEMORY = varint(1 << 3) + varint(9191) + varint(2 << 3) + varint(19000) + floats(f3=33.25)
MISC = floats(f1=0.22) + varint(2 << 3) + varint(100) + varint(3 << 3) + varint(10)
FILE = part(1, b"benchmark") + part(2, LATENCY) + part(3, MEMORY) + part(4, MISC)


def test_the_result_file_has_the_median() -> None:
    summary = parse_result_file(FILE)
    assert summary.typical_us == pytest.approx(829.5)
    assert summary.mean_us == pytest.approx(832.4)
    assert summary.first_us == pytest.approx(1040)
    assert summary.init_us == pytest.approx(3730)
    assert summary.n_runs == 100
    assert summary.peak_memory_kb == 34048
    assert summary.source == "result file"


def test_the_result_file_agrees_with_protobuf(tmp_path) -> None:
    """The same bytes, as protobuf's own writer makes them from the published field numbers."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="r.proto", package="t", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    latency, misc, result = (file.message_type.add(name=n) for n in ("Latency", "Misc", "Result"))
    for name, number in (("avg_ms", 1), ("median_ms", 5)):
        latency.field.add(name=name, number=number, type=kinds.TYPE_FLOAT, label=kinds.LABEL_OPTIONAL)
    misc.field.add(name="num_runs", number=2, type=kinds.TYPE_INT32, label=kinds.LABEL_OPTIONAL)
    for name, number, kind in (("latency", 2, ".t.Latency"), ("misc", 4, ".t.Misc")):
        result.field.add(name=name, number=number, type=kinds.TYPE_MESSAGE, type_name=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Result"))()
    message.latency.avg_ms, message.latency.median_ms, message.misc.num_runs = 1.5, 1.25, 321
    summary = parse_result_file(message.SerializeToString())
    assert (summary.mean_us, summary.median_us, summary.n_runs) == (1500, 1250, 321)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FILE[:30],
        part(1, b"x"),
        part(2, floats(f5=0.8)),
        part(2, floats(f1=float("nan"))),
        varint(2 << 3) + b"\x05",
    ],
)
def test_damaged_result_files(data: bytes) -> None:
    with pytest.raises(BenchmarkOutputError):
        parse_result_file(data)


@given(st.binary(max_size=200) | st.integers(0, len(FILE)).map(lambda n: FILE[:n]))
def test_any_bytes_are_a_latency_or_a_known_error(data: bytes) -> None:
    with contextlib.suppress(BenchmarkOutputError):
        assert 0 < parse_result_file(data).typical_us < 1e12
