from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from synthetic import true_ms

from ofa_core.blocks import BlockSpec
from ofa_core.cli_app import run_app
from ofa_core.context import statistic_name
from ofa_core.spaces import mobilenet_v3
from ofa_core.table import Context, Entry, LatencyTable
from profiler.cli import app
from profiler.compare import compare
from profiler.regression import gate, junit_text, markdown_text, text_lines

NOISE = 0.02


@cache
def table(seed: int, slow=lambda block: 1.0, noise: float = NOISE, ref_us: float = 200.0) -> LatencyTable:
    """A table whose blocks, and forms of blocks, have errors of their own."""
    rng = np.random.default_rng(seed)
    context = Context("dev", "onnxruntime", "1.0", statistic=statistic_name(ref_us * 1e3))
    forms: dict[tuple[object, ...], float] = {}
    entries = {}
    for block in mobilenet_v3().all_blocks([160, 192, 224]):
        form = (block.op, block.kernel_px, block.stride, block.act, block.se)
        of_form = forms.setdefault(form, 0.3 * noise * rng.standard_normal())
        ms = true_ms([block]) * slow(block) * math.exp(of_form + noise * rng.standard_normal())
        entries[None, block] = Entry(ms, n_samples=100, n_processes=5, ci90_ms=2 * noise * ms)
    return LatencyTable(context, entries)


def kernel_5(block: BlockSpec) -> float:
    return 1.03 if block.op == "mbconv" and block.kernel_px == 5 else 1.0


def squeezed(block: BlockSpec) -> float:
    return 1.03 if block.op == "mbconv" and block.se else 1.0


def relu(block: BlockSpec) -> float:
    return 1.03 if block.op == "mbconv" and block.act == "relu" else 1.0


@pytest.mark.parametrize(
    ("slow", "kind"),
    [(kernel_5, "kernel 5"), (squeezed, "squeeze-and-excite"), (relu, "relu")],
    ids=lambda x: str(x)[:9],
)
def test_a_slower_kind_is_found_by_its_name_and_noise_is_not(slow, kind) -> None:
    found = alarms = 0
    for seed in range(100):
        slower = {
            key: replace(entry, latency_ms=entry.latency_ms * slow(key[1]))
            for key, entry in table(seed + 1000).entries.items()
        }
        outcome = gate(compare(table(seed), table(seed + 1000).with_entries(slower)), 0.03)
        found += any(v.name == kind and v.slower for v in outcome.verdicts)
        alarms += gate(compare(table(seed), table(seed + 1000)), 0.03).failed
    assert found >= 95
    assert alarms <= 1


def test_a_kind_that_became_faster_passes() -> None:
    outcome = gate(compare(table(1, kernel_5), table(2)), 0.03)
    assert not outcome.failed
    assert next(v for v in outcome.verdicts if v.name == "kernel 5").ratio < 0.98


def test_all_blocks_together_are_compared_at_equal_machine_speed() -> None:
    slower = gate(compare(table(1), table(2, lambda block: 1.06)), 0.03)
    assert [v.name for v in slower.verdicts if v.slower] == ["all blocks together"]
    assert not gate(compare(table(1), table(2, lambda block: 1.3, ref_us=260)), 0.03).failed


def test_a_single_slow_block_fails() -> None:
    new = table(2, noise=0.005)
    key = list(new.entries)[50]
    slow = replace(new.entries[key], latency_ms=1.5 * (new.entries[key].latency_ms or 0))
    outcome = gate(compare(table(1, noise=0.005), new.with_entries({key: slow})), 0.03)
    assert [c.block for c in outcome.blocks] == [key[1]]
    assert outcome.failed
    assert key[1].label() in text_lines(outcome)[-1]


def test_a_noisy_comparison_gives_the_smallest_detectable_change() -> None:
    quiet, noisy = (gate(compare(table(1, noise=n), table(2, noise=n)), 0.03) for n in (0.005, 0.1))
    assert quiet.verdicts[1].resolution < 0.03 < noisy.verdicts[1].resolution


def test_few_blocks_of_a_kind_are_left_out() -> None:
    old, new = table(1), table(2)
    few = [key for key in old.entries if key[1].kernel_px == 7][:10] + [
        key for key in old.entries if key[1].kernel_px == 3
    ]
    old, new = (LatencyTable(t.context, {key: t.entries[key] for key in few}) for t in (old, new))
    names = [v.name for v in gate(compare(old, new), 0.03).verdicts]
    assert "kernel 7" not in names
    assert "squeeze-and-excite" in names


@pytest.mark.parametrize("slow", [lambda block: 1.0, kernel_5], ids=["passes", "fails"])
def test_blocks_that_the_new_table_lacks_are_counted(slow) -> None:
    old, new = table(1), table(2, slow)
    kept = dict(list(new.entries.items())[5:])
    outcome = gate(compare(old, LatencyTable(new.context, kept)), 0.03)
    words = "not compared: 5 blocks that the new table lacks"
    assert words in text_lines(outcome)[-1]
    assert words in markdown_text(outcome).splitlines()[0]
    assert words not in text_lines(gate(compare(old, new), 0.03))[-1]


# ---- output ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    table(1).write(tmp_path / "old.csv")
    table(2).write(tmp_path / "new.csv")
    table(2, kernel_5).write(tmp_path / "slow.csv")
    return tmp_path


def call(capsys, *words: object) -> tuple[int, str, str]:
    code = run_app(app, ["compare", *map(str, words)], prog="ofa-profile")
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_ends_with_3_and_writes_markdown_and_junit(capsys, files) -> None:
    outputs = ("--markdown", files / "gate.md", "--junit", files / "gate.xml")
    code, out, _ = call(capsys, files / "old.csv", files / "slow.csv", "--fail-above", "3%", *outputs)
    assert code == 3
    assert out.splitlines()[-1] == "slower, with a limit of 3 %: kernel 5"
    text = (files / "gate.md").read_text()
    assert text.startswith("**Latency: slower, with a limit of 3 %: kernel 5**")
    assert "| kernel 5 | 90 | +" in text
    suite = ET.parse(files / "gate.xml").getroot()
    cases = {case.get("name"): case.find("failure") is not None for case in suite}
    assert [name for name, failed in cases.items() if failed] == ["kernel 5"]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == (str(len(cases)), "1", "0")


def test_the_command_ends_with_0_where_nothing_is_slower(capsys, files) -> None:
    code, out, _ = call(capsys, files / "old.csv", files / "new.csv", "--fail-above", "3%")
    assert code == 0
    assert out.splitlines()[-1] == "no slow-down of 3 % found"
    assert call(capsys, files / "slow.csv", files / "old.csv", "--fail-above", "3%")[0] == 0  # faster is fine


@pytest.mark.parametrize("value", ["3", "0.03", "0%", "-3%", "nan%", "inf%", "x%", "%", "2000%"])
def test_a_limit_is_a_percentage(capsys, files, value) -> None:
    code, _, err = call(capsys, files / "old.csv", files / "new.csv", f"--fail-above={value}")
    assert code == 2
    assert "--fail-above" in err


def test_outputs_need_a_limit(capsys, files) -> None:
    code, _, err = call(capsys, files / "old.csv", files / "new.csv", "--junit", files / "x.xml")
    assert (code, (files / "x.xml").exists()) == (2, False)
    assert "--fail-above" in err


def test_two_outputs_need_two_files(capsys, files) -> None:
    (files / "sub").mkdir()
    for second in (files / "x.md", files / "sub" / ".." / "x.md"):
        outputs = ("--markdown", files / "x.md", "--junit", second)
        code, _, err = call(capsys, files / "old.csv", files / "new.csv", "--fail-above", "3%", *outputs)
        assert (code, (files / "x.md").exists()) == (2, False)
        assert "another output of this command" in " ".join(err.replace("│", " ").split())


def test_text_of_others_is_escaped() -> None:
    outcome = gate(compare(table(1), table(2)), 0.03)
    odd = replace(outcome, context=("device 'a|b<i>' != '`c`'",))
    assert r"device 'a\|b\<i\>' != '\`c\`'" in markdown_text(odd)
    ET.fromstring(junit_text(odd))


def test_blocks_that_were_not_compared_are_a_skipped_case() -> None:
    outcome = replace(gate(compare(table(1), table(2)), 0.03), n_missing=7)
    suite = ET.fromstring(junit_text(outcome))
    assert (suite.get("tests"), suite.get("skipped")) == (str(len(suite)), "1")
    (skipped,) = suite.iter("skipped")
    assert skipped.get("message") == "not compared: 7 blocks"
