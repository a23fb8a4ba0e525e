from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import OfaError, SpaceError  # noqa: E402
from ofa_core.train.config import Config, SpaceConfig, build_phases, build_space, embedded, read_config  # noqa: E402
from ofa_core.train.phases import Phase  # noqa: E402

WHOLE = """
[space]
name = "mbv3-w0.5"
first_stride = 1
stage_strides = [2, 2, 1, 1, 2]
resolutions = [32, 24]

[data]
source = "cifar10:/somewhere"
workers = 2

[augmentation]
scale = [0.5, 1]
flip = false

[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
resize = "direct"

[recipe]
name = "sandwich"
epochs = 12

[run]
seed = 3
amp = "bf16"
"""


def write(tmp_path, text):
    (tmp_path / "c.toml").write_text(text)
    return tmp_path / "c.toml"


def test_a_whole_file(tmp_path):
    config = read_config(write(tmp_path, WHOLE))
    assert config.space.stage_strides == (2, 2, 1, 1, 2)
    assert config.augmentation.scale == (0.5, 1.0)
    assert config.augmentation.saturation == 0.5  # not given: the published default
    assert config.preprocessing.resize == "direct"
    space = build_space(config.space, 10)
    assert (space.first_stride, space.resolutions, space.n_classes) == (1, (24, 32), 10)
    assert [stage.stride for stage in space.stages] == [2, 2, 1, 1, 2]
    (phase,) = build_phases(config, space)
    assert (phase.sampling, phase.subnets_per_step) == ("sandwich", 4)
    assert phase.epochs + phase.warmup_epochs == pytest.approx(12)


def test_phases_one_by_one(tmp_path):
    text = '[[phase]]\nname = "a"\nepochs = 2\nlr = 0.1\nkernels = [3]\n'
    text += '[[phase]]\nname = "b"\nepochs = 1.5\nlr = 0.01\nkd_ratio = 1\n'
    config = read_config(write(tmp_path, text))
    assert [(p.name, p.epochs, p.kernels, p.kd_ratio) for p in build_phases(config, build_space(config.space, 10))] == [
        ("a", 2.0, (3,), 0.0),
        ("b", 1.5, None, 1.0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[recipe]\nepoch = 3", r"unknown key recipe\.epoch; did you mean epochs\?"),
        ("[receipt]\nepochs = 3", r"unknown key receipt; did you mean recipe\?"),
        ("[run]\nzzz = 3", r"unknown key run\.zzz; known: seed, device"),
        ("[run]\nseed = 'a'", r"run\.seed is 'a'; a whole number is expected"),
        ("[run]\nseed = true", r"run\.seed is True; a whole number is expected"),
        ("[run]\namp = 'bf61'", r"run\.amp is 'bf61'; choose one of none, bf16, fp16; did you mean bf16\?"),
        ("[space]\nresolutions = 24", r"space\.resolutions is 24; a list is expected"),
        ("[preprocessing]\nmean = [1, 2]\nstd = [1, 1, 1]", r"preprocessing\.mean has 2 entries; 3 are expected"),
        ("[preprocessing]\nmean = [1, 2, 3]", "preprocessing has no std"),
        ("run = 3", "run is 3; a table is expected"),
        (
            "[[phase]]\nname = 'a'\nepochs = 1\nlr = 0.1\nkernel = [3]",
            r"unknown key phase\[0\]\.kernel; did you mean kernels\?",
        ),
        ("[run", "not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(OfaError, match=message) as error:
        read_config(write(tmp_path, text))
    assert "c.toml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[recipe]\nlr_scale = nan", "recipe.lr_scale is nan"),
        ("[recipe]\nlr_scale = inf", "recipe.lr_scale is inf"),
        ("[recipe]\nlr_scale = 0", "recipe.lr_scale is 0.0"),
        ("[recipe]\nlr_scale = -1.5", "recipe.lr_scale is -1.5"),
        ("[recipe]\nepochs = nan", "recipe.epochs is nan"),
        ("[recipe]\nepochs = -2", "recipe.epochs is -2.0"),
        ("[recipe]\nkd_ratio = -inf", "recipe.kd_ratio is -inf"),
        ("[recipe]\nbatch_size = 1", "recipe.batch_size is 1"),
        ("[recipe]\naccumulate = 0", "recipe.accumulate is 0"),
        ("[data]\nn_calibration = 0", "data.n_calibration is 0"),
        ("[data]\nworkers = -1", "data.workers is -1"),
        ("[data]\neval_batch_size = 0", "data.eval_batch_size is 0"),
        ("[run]\nseed = -1", "run.seed is -1"),
        ("[run]\ncheckpoint_s = nan", "run.checkpoint_s is nan"),
        ("[augmentation]\nscale = [0.5, nan]", "augmentation.scale[1] is nan"),
        ("[augmentation]\nscale = [0.9, 0.1]", "the smaller number comes first"),
        ("[augmentation]\nbrightness = 3", "augmentation.brightness is 3.0"),
        ("[preprocessing]\nmean = [0, 0, 0]\nstd = [1, 0, 1]", "three positive stds"),
        ("[preprocessing]\nmean = [0, nan, 0]\nstd = [1, 1, 1]", "preprocessing.mean[1] is nan"),
        *(
            (f"[[phase]]\nname = 'a'\nepochs = 1\nlr = 0.1\n{name} = {value}", f"{name} is {shown}")
            for name, value, shown in (
                ("warmup_lr", "nan", "nan"),
                ("momentum", "1.5", "1.5"),
                ("weight_decay", "-1", "-1.0"),
                ("label_smoothing", "1", "1.0"),
                ("dropout", "2", "2.0"),
                ("warmup_epochs", "-1", "-1.0"),
            )
        ),
    ],
)
def test_numbers_out_of_range_are_named(tmp_path, text, place):
    with pytest.raises(OfaError) as error:
        read_config(write(tmp_path, text))
    assert place in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_numbers_given_in_code_are_checked_too(bad):
    with pytest.raises(OfaError, match=r"recipe\.lr_scale is"):
        replace(embedded().recipe, lr_scale=bad)
    with pytest.raises(OfaError, match="phase x: lr is"):
        Phase("x", 1, bad)
    with pytest.raises(OfaError, match="phase x: epochs is"):
        Phase("x", bad, 0.1)


def test_strides_that_do_not_fit():
    with pytest.raises(SpaceError, match=r"stage_strides \[1\]"):
        build_space(SpaceConfig("tiny", stage_strides=(1,)), 10)


def test_the_embedded_run_goes_through_all_phases():
    config = embedded()
    phases = build_phases(config, build_space(config.space, 10))
    assert [p.name for p in phases] == ["full", "kernel", "depth1", "expand1"]
    assert sum(p.epochs + p.warmup_epochs for p in phases) == pytest.approx(50)


def test_the_default_is_as_published():
    config = Config(space=SpaceConfig("mbv3-w1.0"))
    phases = build_phases(config, build_space(config.space, 1000))
    assert sum(p.epochs for p in phases) == 180 + 120 + 25 + 120 + 25 + 120
    assert config.data.held_out == 10_000
    assert config.data.n_calibration == 2000
