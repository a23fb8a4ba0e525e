from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from small_spaces import OWN_SPACE

from ofa_core.errors import OfaError, SpaceError
from ofa_core.space_files import space_from, space_toml
from ofa_core.spaces import get_space, tiny

RECIPE = """
[space]
name = "mbv3-w0.5"
first_stride = 1
stage_strides = [2, 2, 1, 1, 2]
resolutions = [32, 24]

[data]
source = "cifar10:/somewhere"
"""


def write(tmp_path, text):
    (tmp_path / "s.toml").write_text(text)
    return str(tmp_path / "s.toml")


def test_a_space_in_full(tmp_path):
    space = space_from(write(tmp_path, OWN_SPACE))
    assert asdict(space) == asdict(replace(tiny(), name="mine", first_stride=1))


def test_settings_of_a_training(tmp_path):
    space = space_from(write(tmp_path, RECIPE))
    assert (space.first_stride, space.resolutions, space.n_classes) == (1, (24, 32), 10)
    assert [stage.stride for stage in space.stages] == [2, 2, 1, 1, 2]
    assert space.name == f"mbv3-w0.5-{space.digest[:6]}"


def test_changes_of_a_built_in_space(tmp_path):
    assert space_from(write(tmp_path, '[space]\nname = "tiny"')) == tiny()
    fixed = space_from(write(tmp_path, '[space]\nname = "tiny"\nkernels = [5]\nn_classes = 3\nresolutions = [32]'))
    assert (fixed.kernels, fixed.n_classes, fixed.resolutions) == ((5,), 3, (32,))


@pytest.mark.parametrize("name", ["tiny", "mbv3-w1.2", "proxyless-w1.3"])
def test_a_space_that_is_printed_reads_back(tmp_path, name):
    space = get_space(name)
    assert asdict(space_from(write(tmp_path, space_toml(space)))) == asdict(space)
    odd = replace(tiny(), name='my "own" space \u00e9')
    assert asdict(space_from(write(tmp_path, space_toml(odd)))) == asdict(odd)


def test_a_built_in_name():
    assert space_from("mbv3-w1.0") == get_space("mbv3-w1.0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"s\.toml: no table \[space\]"),
        ("space = 3", r"no table \[space\]"),
        ("[space", "not TOML"),
        ('[space]\nname = "tony"', "unknown space 'tony'"),
        ("[space]\nstages = 2", r"space\.stages is 2; a list is expected"),
        (OWN_SPACE.replace("first_c = 8\n", "").replace("n_classes = 10\n", ""), "needs first_c, n_classes too"),
        (OWN_SPACE.replace("width = 24\n", ""), r"space\.stages\[1\].*width"),
        (OWN_SPACE.replace("width = 24", "widht = 24"), "did you mean width"),
        (OWN_SPACE.replace("[3, 5]", "[2, 5]"), "odd"),
        (OWN_SPACE.replace('"relu"', '"gelu"'), "gelu"),
        ('[space]\nname = "tiny"\nfirst_stride = 0', "first_stride is 0"),
        ('[space]\nname = "tiny"\nresolutions = [30]', "multiple of 4"),
        ('[space]\nname = "tiny"\n[data]\nsource = "imagefolder:/x"', r"give n_classes in \[space\]"),
        ('[space]\nname = "tiny"\n[recipe]\nepochs = 3', r"give n_classes in \[space\]"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(OfaError, match=message) as error:
        space_from(write(tmp_path, text))
    assert "s.toml" in str(error.value)


@pytest.mark.parametrize("name", ["nothing.toml", "nothing.pt", "nothing.PTH"])
def test_a_file_that_is_not_there(tmp_path, name):
    pytest.importorskip("torch", reason="needs torch")
    with pytest.raises((OfaError, OSError), match="nothing"):
        space_from(str(tmp_path / name))


def test_an_unknown_name_lists_the_others():
    with pytest.raises(SpaceError, match=r"known: mbv3-w1\.0.*or a \.toml file, or a supernet\.pt"):
        space_from("resnet50")


@pytest.mark.torch
def test_a_checkpoint(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    from ofa_core.formats.checkpoint import write_checkpoint
    from ofa_core.formats.preprocessing import Preprocessing
    from ofa_core.formats.published_weights import to_published
    from ofa_core.nn.supernet import Supernet

    mine = replace(tiny(), name="mine", first_stride=1)
    write_checkpoint(tmp_path / "mine.pt", Supernet(mine), mine, Preprocessing((0.5,) * 3, (0.5,) * 3, "direct"))
    assert asdict(space_from(str(tmp_path / "mine.pt"))) == asdict(mine)

    torch.save({"state_dict": to_published(Supernet(mine))}, tmp_path / "published.pt")
    with pytest.raises(OfaError, match="published state dict"):
        space_from(str(tmp_path / "published.pt"))
    torch.save({"schema": 1, "space": asdict(mine), "space_digest": tiny().digest}, tmp_path / "changed.pt")
    with pytest.raises(OfaError, match=r"changed\.pt: .*digest"):
        space_from(str(tmp_path / "changed.pt"))
    torch.save({"schema": 1, "space": {"name": "x"}}, tmp_path / "broken.pt")
    with pytest.raises(OfaError, match=r"broken\.pt: not a search space"):
        space_from(str(tmp_path / "broken.pt"))
