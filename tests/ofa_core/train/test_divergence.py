"""Training that goes wrong stops at once, and nothing that it spoilt is ever written or read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.cli_app import run_app  # noqa: E402
from ofa_core.errors import FormatError, OfaError  # noqa: E402
from ofa_core.formats.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.formats.published_weights import published_names, write_published  # noqa: E402
from ofa_core.formats.torch_files import write_torch  # noqa: E402
from ofa_core.nn.supernet import Supernet  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.batches import Loader  # noqa: E402
from ofa_core.train.checkpoints import RunState, name_last_checkpoint, newest, save  # noqa: E402
from ofa_core.train.cli import app  # noqa: E402
from ofa_core.train.config import embedded  # noqa: E402
from ofa_core.train.divergence import DivergedError, LossWatch, check_finite  # noqa: E402
from ofa_core.train.loop import PhaseRun, make_optimizer, train_phase  # noqa: E402
from ofa_core.train.phases import Phase  # noqa: E402
from ofa_core.train.run import Data, TrainingRun  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")
_TOML = """
[space]
name = "tiny"
[data]
held_out = 718
n_calibration = 8
[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
resize = "direct"
[run]
device = "cpu"
fast_gradients = false
[[phase]]
name = "calm"
epochs = 0.1
lr = 0.01
[[phase]]
name = "wild"
epochs = 0.2
lr = {lr}
"""


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_nan_loss_stops_at_once(loss):
    watch = LossWatch(Phase("full", 1, 0.1), 10, 300)
    watch.check(11, 2.3, 0.1)
    with pytest.raises(DivergedError, match=rf"is {loss} at step 12 of 300 in phase full, learning rate 0\.1$"):
        watch.check(12, loss, 0.1)


def test_a_loss_that_stays_high_stops_and_a_spike_does_not():
    watch = LossWatch(Phase("full", 1, 0.1, kd_ratio=1.0), 10, 300)
    for step in range(100):
        watch.check(step, 1e6 if step % 10 else 2.3, 0.1)  # nine high ones in a row
    with pytest.raises(
        DivergedError,
        match=r"the loss is 1e\+06 at step 100 .*, over 10 times that of guessing \(4\.61\) for 10 steps in a row$",
    ):
        watch.check(100, 1e6, 0.1)


def test_a_step_with_such_a_loss_leaves_the_weights_as_they_were(few_images):
    net = Supernet(tiny().with_classes(4), seed=0)
    with torch.no_grad():
        next(net.parameters()).fill_(3e38)  # overflows in the first convolution
    before = [p.clone() for p in net.parameters()]
    phase = Phase("x", 1, 0.1, batch_size=8, weight_decay=0.0)
    loader = Loader(few_images, np.arange(40), 8, (24,), HALF)
    with pytest.raises(DivergedError, match="at step 0 of 5 in phase x"):
        list(train_phase(PhaseRun(net, make_optimizer(net, phase), loader, phase)))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.slow
def test_a_diverged_run_names_its_last_good_checkpoint_and_resumes(tmp_path, capsys):
    settings, out = tmp_path / "run.toml", tmp_path / "run"
    settings.write_text(_TOML.format(lr="1e30"))
    words = ["supernet", "--config", str(settings), "--out", str(out)]
    assert run_app(app, words, prog="ofa-train") == 1
    captured = capsys.readouterr()
    good = newest(out)
    assert good is not None
    error = captured.err.splitlines()[-1]
    assert captured.out == ""
    assert error.startswith("ofa-train: training diverged: ")
    assert "in phase wild" in error
    assert error.endswith(
        f"; continue from {good} with --resume and a lower learning rate, such as lr_scale = 0.5 in [recipe]"
    )
    assert not (out / "supernet.pt").exists()

    assert run_app(app, [*words, "--resume"], prog="ofa-train") == 1  # the same rates, the same end
    assert newest(out) == good
    capsys.readouterr()

    settings.write_text(_TOML.format(lr="1e-3"))
    assert run_app(app, [*words, "--resume"], prog="ofa-train") == 0
    assert f"ofa-train: warning: {out} continues with changed settings (phase: " in capsys.readouterr().err
    check_finite(read_checkpoint(out / "supernet.pt").net)

    settings.write_text(_TOML.format(lr="1e-3").replace("epochs = 0.2", "epochs = 0.3"))
    assert run_app(app, [*words, "--resume"], prog="ofa-train") == 1
    assert "--resume needs the same settings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fine_tuning_that_diverges_writes_nothing(tmp_path, capsys):
    from ofa_core.arch_json import write_arch

    write_checkpoint(tmp_path / "net.pt", Supernet(tiny(), seed=1), tiny(), HALF)
    write_arch(tmp_path / "arch.json", tiny().uniform(3, 3, 1, 24), tiny())
    out = tmp_path / "subnet.pt"
    words = ["finetune", tmp_path / "arch.json", "--weights", tmp_path / "net.pt", "--out", out, "--epochs", 1]
    for rate, said in (("1e30", "training diverged"), ("nan", "lr is nan"), ("-1", "lr is -1.0"), ("inf", "lr is inf")):
        assert run_app(app, [*map(str, words), f"--lr={rate}"], prog="ofa-train") == 1
        captured = capsys.readouterr()
        assert said in captured.err.splitlines()[-1]
        assert not captured.out
        assert not out.exists()


def spoilt(where: str):
    net = Supernet(tiny(), seed=0)
    optimizer = make_optimizer(net, Phase("x", 1, 0.1))
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    with torch.no_grad():
        if where == "weight":
            next(net.parameters())[0] = math.nan
        elif where == "statistics":
            next(b for n, b in net.named_buffers() if n.endswith("running_var"))[0] = math.inf
        else:
            next(iter(optimizer.state.values()))["momentum_buffer"][0] = math.nan
    return net, optimizer


@pytest.mark.parametrize("where", ["weight", "statistics", "momentum"])
def test_a_checkpoint_with_nan_is_never_written(tmp_path, few_images, where):
    net, optimizer = spoilt(where)
    run = TrainingRun(embedded(), Data(few_images, few_images, np.arange(40), np.arange(0)), tmp_path)
    message = (
        r"holds nan or inf; no checkpoint was written yet: start again with a lower learning rate, such as lr_scale"
    )
    with pytest.raises(DivergedError, match=message), name_last_checkpoint(tmp_path):
        save(run, RunState(net), optimizer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["weight", "statistics"])
def test_weights_with_nan_are_neither_written_nor_read(tmp_path, where):
    net, _ = spoilt(where)
    for write in (write_published, lambda path, net: write_checkpoint(path, net, tiny(), HALF)):
        with pytest.raises(FormatError, match="holds nan or inf"):
            write(tmp_path / "x.pt", net)
    assert not list(tmp_path.iterdir())
    write_checkpoint(tmp_path / "good.pt", Supernet(tiny(), seed=0), tiny(), HALF)
    content = torch.load(tmp_path / "good.pt", weights_only=True)
    state = {name: net.state_dict()[key] for key, name in published_names(net).items()}
    write_torch(tmp_path / "bad.pt", {**content, "state_dict": state})
    with pytest.raises(OfaError, match=r"bad\.pt: .* holds nan or inf; training went wrong"):
        read_checkpoint(tmp_path / "bad.pt")


def test_nan_epochs_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["--epochs", "nan"], ["--epochs", "inf"], ["--epochs=-1"], ["supernet", "--epochs", "nan"]):
        assert run_app(app, words, prog="ofa-train") == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("ofa-train: recipe.epochs is ")
        assert len(captured.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
    assert replace(embedded().recipe, epochs=2.0).epochs == 2.0
