"""What every backend of the agent must do: one suite over all of its list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from software_gpu import SOFTWARE_GPU

from ofa_core.spaces import tiny
from profiler.agent.backends import BACKENDS, Backend, open_backend
from profiler.model_files import ModelStore
from profiler.plan import BlockItem, NetworkItem

SPACE = tiny()
ITEMS = {
    "block": BlockItem(SPACE.all_blocks((24,))[1]),
    "network": NetworkItem(SPACE, SPACE.smallest(24)),
}


@pytest.fixture(scope="module", params=BACKENDS, ids=lambda names: " ".join(filter(None, names)))
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[tuple[str, str], Backend]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SOFTWARE_GPU.items():
            patch.setenv(name, value)
        try:
            backend = open_backend(*request.param)
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"this machine cannot run it: {str(error).splitlines()[0]}")
        yield request.param[:2], backend


def test_it_names_its_version(opened: tuple[tuple[str, str], Backend]) -> None:
    (name, _), backend = opened
    versions = backend.versions()
    assert versions[name]
    assert all(isinstance(text, str) and text.isprintable() for text in versions.values())


@pytest.mark.parametrize("item", sorted(ITEMS))
@pytest.mark.parametrize("batch_size", [1, 2])
def test_it_runs_the_model_files_of_its_format(
    opened: tuple[tuple[str, str], Backend], item: str, batch_size: int, tmp_path: Path
) -> None:
    (name, dtype), backend = opened
    path = ModelStore(tmp_path, name, batch_size, dtype=dtype).path(ITEMS[item])
    first, second = backend.load(str(path), 1), backend.load(str(path), 1)
    for model in (first, second, first):
        model.run()
    assert json.loads(json.dumps(first.settings)) == json.loads(json.dumps(second.settings))
    timed = getattr(first, "timed", None)
    if timed is not None:
        assert len(timed(1, 3)["wall_ns"]) == 3
    first.close()
    second.run()  # models are independent
    second.close()


def test_it_refuses_a_file_that_is_not_a_model(opened: tuple[tuple[str, str], Backend], tmp_path: Path) -> None:
    path = tmp_path / "not-a-model"
    path.write_bytes(b"neither a model nor text \xff")
    with pytest.raises(Exception, match=r".+"):
        opened[1].load(str(path), 1)


def test_it_refuses_a_file_that_does_not_exist(opened: tuple[tuple[str, str], Backend], tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r".+"):
        opened[1].load(str(tmp_path / "absent"), 1)
