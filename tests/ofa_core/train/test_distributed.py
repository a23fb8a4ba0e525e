from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

from ofa_core.errors import OfaError  # noqa: E402
from ofa_core.train.distributed import process_group  # noqa: E402

_WORKER = Path(__file__).with_name("ddp_worker.py")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def launch(out: Path, world: int) -> None:
    base = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    if world > 1:
        base |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}
    processes = []
    for rank in range(world):
        own = {**base, "RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else base
        command = [sys.executable, str(_WORKER), str(out)]
        processes.append(subprocess.Popen(command, env=own, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("ddp")
    launch(out, 1)
    launch(out, 2)
    return {name: torch.load(out / f"{name}.pt", weights_only=True) for name in ("single", "0", "1")}


def distance(a, b) -> float:
    assert a.keys() == b.keys()
    return max((a[k] - b[k]).abs().max().item() for k in a)


def test_gradients_of_two_ranks_are_those_of_one_process(results):
    for rank in ("0", "1"):
        assert distance(results[rank]["reduced"], results["single"]["reduced"]) < 1e-6
    assert distance(results["0"]["reduced"], results["1"]["reduced"]) == 0


def test_without_the_reduction_they_are_not(results):
    """The negative control: the comparison above can fail."""
    assert distance(results["0"]["alone"], results["single"]["reduced"]) > 1e-3
    assert distance(results["0"]["alone"], results["1"]["alone"]) > 1e-3


def test_evaluation_is_sharded_without_a_trace(results):
    for rank in ("0", "1"):
        torch.testing.assert_close(results[rank]["accuracy"], results["single"]["accuracy"], atol=1e-2, rtol=1e-2)
        assert results[rank]["accuracy"][2] == 101
    assert torch.equal(results["0"]["accuracy"], results["1"]["accuracy"])


def test_calibration_is_averaged_over_ranks(results):
    assert {int(r["n_calibrated"]) for r in results.values()} == {64}
    assert distance(results["0"]["statistics"], results["1"]["statistics"]) == 0
    whole, shared = results["single"]["statistics"], results["0"]["statistics"]
    # Batches are of other images, so deeper statistics differ a little; the stem's means do not.
    torch.testing.assert_close(shared["layers.0.bn.running_mean"], whole["layers.0.bn.running_mean"])
    assert all(torch.isfinite(v).all() for v in shared.values())


def test_ranks_stay_equal_and_in_step(results):
    assert distance(results["0"]["trained"], results["1"]["trained"]) == 0
    assert torch.equal(results["0"]["steps"], results["1"]["steps"])
    assert set(results["0"]["steps"][:, 1].tolist()) == {16.0}


def test_a_device_that_is_not_there():
    with pytest.raises(OfaError, match="unknown device 'tpu'; choose one of auto, cpu, cuda"), process_group("tpu"):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(OfaError, match="device 'cuda': torch finds no GPU here; use cpu"), process_group("cuda"):
            pass
