"""What `ofa-train` prints of accuracies and of its progress."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.train.console import print_accuracies, progress, warn_of_chance  # noqa: E402
from ofa_core.train.distributed import ALONE, Process  # noqa: E402
from ofa_core.train.evaluation import Accuracy  # noqa: E402

LABELS = np.arange(100) % 4
GOOD, BAD = Accuracy(97.25, 100.0, 0.125, 100), Accuracy(26.0, 100.0, 1.4, 100)


def test_a_line_per_sub_net_and_a_warning(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    print_accuracies([("largest", GOOD), ("a longer name", BAD)], LABELS, ALONE)
    assert capsys.readouterr().out.splitlines() == [
        "sub-net        top-1 %  top-5 %    loss  images",
        "largest          97.25   100.00   0.125     100",
        "a longer name    26.00   100.00   1.400     100",
    ]
    (record,) = caplog.records
    assert record.getMessage().startswith("1 of 2 accuracies are no better than chance (25.00 % top-1); usual causes: ")
    caplog.clear()
    warn_of_chance([BAD], LABELS, ALONE)
    assert caplog.records[0].getMessage().startswith("the accuracy is no better than chance")
    caplog.clear()
    warn_of_chance([GOOD], LABELS, ALONE)
    assert caplog.records == []


def test_other_processes_print_nothing(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    print_accuracies([("x", BAD)], LABELS, Process(1, 2, "cpu"))
    assert (capsys.readouterr().out, caplog.records) == ("", [])


def test_without_a_terminal_each_task_ends_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for shown in (True, False):
        with progress(shown) as update:
            update("train", 1, 3)
            update("train", 3, 3, "loss 0.1")
            update("evaluate", 2, 2)
    assert [record.getMessage() for record in caplog.records] == ["train: 3 of 3 loss 0.1", "evaluate: 2 of 2"]
