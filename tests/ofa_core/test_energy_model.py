from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_core.blocks import BlockSpec
from ofa_core.energy_model import fit_energy, giga_sizes
from ofa_core.errors import FormatError, OfaError, TableError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_networks import Network, read_networks, write_networks
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3
from ofa_core.table import Context, Entry, LatencyTable

SPACE = mobilenet_v3()
RESOLUTIONS = (160, 192)


def block_ms(block: BlockSpec) -> float:
    return 0.01 + block.kernel_macs / 1e7 + block.pointwise_macs / 4e7


def table(batch_size: int = 1) -> LatencyTable:
    blocks = SPACE.all_blocks(RESOLUTIONS)
    return LatencyTable(Context(batch_size=batch_size), {(None, b): Entry(block_ms(b)) for b in blocks})


def networks(rule: Callable[[Space, object], float], n: int = 12, role: str = "reference") -> list[Network]:
    rng = np.random.default_rng(3)
    out = []
    for arch in decode(SPACE, sample_genomes(SPACE, n, rng, list(RESOLUTIONS))):
        blocks = SPACE.blocks(arch)
        total = sum(map(block_ms, blocks))
        mj = sum(rule(block) for block in blocks)  # type: ignore[call-arg]
        out.append(
            Network(SPACE, arch, role, len(blocks), total, total, energy_mj=mj, gross_mj=2 * mj, energy_source="rapl")
        )
    return out


def test_a_device_of_constant_power_has_one_coefficient() -> None:
    noise = np.random.default_rng(0)
    nets = [
        replace(net, energy_mj=(net.energy_mj or 0) * np.exp(0.02 * noise.standard_normal()))
        for net in networks(lambda b: 4.5 * block_ms(b))
    ]
    model = fit_energy(nets, table())
    assert model is not None
    assert model.watts == pytest.approx(4.5, rel=0.02)
    assert (model.pj_per_mac, model.pj_per_element) == (0.0, 0.0)
    assert model.n_networks == 12
    assert 0.005 < model.loo_mape < 0.04
    assert 1.02 < model.margin() < 1.1


@pytest.mark.parametrize("batch_size", [1, 64])
def test_arithmetic_and_memory_come_in_where_they_matter(batch_size: int) -> None:
    def rule(block: BlockSpec) -> float:
        macs, elements = giga_sizes(block, batch_size)
        return 0.5 * block_ms(block) + 30 * macs + 900 * elements

    model = fit_energy(networks(rule), table(batch_size))
    assert model is not None
    assert (model.watts, model.pj_per_mac, model.pj_per_element) == pytest.approx((0.5, 30, 900), rel=1e-6)
    assert model.loo_mape < 1e-6
    for block in SPACE.all_blocks([160])[::20]:
        assert model.block_mj(block, block_ms(block)) == pytest.approx(rule(block), rel=1e-6)


def test_coefficients_are_never_negative() -> None:
    def rule(block: BlockSpec) -> float:  # takes less where memory is busy: no energy is gained by that
        macs, elements = giga_sizes(block, 1)
        return 5 * block_ms(block) + 10 * macs - 100 * elements

    model = fit_energy(networks(rule), table())
    assert model is not None
    assert min(model.watts, model.pj_per_mac, model.pj_per_element) >= 0
    assert model.watts > 0


def test_only_reference_networks_with_energy_count() -> None:
    nets = networks(lambda b: 4.5 * block_ms(b))
    assert fit_energy(nets[:4], table()) is None
    assert fit_energy([replace(net, role="verify") for net in nets], table()) is None
    few = [replace(net, energy_mj=None) if i % 3 else net for i, net in enumerate(nets)]
    assert fit_energy(few, table()) is None
    assert fit_energy(nets[:5], table()) is not None
    without = LatencyTable(table().context, dict(list(table().entries.items())[40:]))
    assert fit_energy(nets, without) == fit_energy(nets, table())  # by the sums that were written down


def test_energy_is_written_only_if_measured(tmp_path: Path) -> None:
    path = tmp_path / "t.networks.csv"
    nets = networks(lambda b: 4.5 * block_ms(b), 6)
    nets[2] = replace(nets[2], energy_mj=None)
    nets[3] = replace(nets[3], energy_mj=None, gross_mj=None, energy_source="")
    write_networks(path, Context(), nets)
    assert read_networks(path) == nets
    plain = [replace(net, energy_mj=None, gross_mj=None, energy_source="") for net in nets]
    write_networks(path, Context(), plain)
    assert path.read_text().splitlines()[0].endswith(",n_samples,n_processes,space_digest,space_definition,delegate")
    assert read_networks(path) == plain


@pytest.mark.parametrize(
    ("energy", "error", "message"),
    [
        ("-1.0", TableError, "energy_mj is '-1.0'"),
        ("nan", TableError, "energy_mj is 'nan'"),
        ("much", FormatError, "energy_mj is 'much'"),
    ],
)
def test_an_energy_that_is_none_is_refused(tmp_path: Path, energy: str, error: type[OfaError], message: str) -> None:
    path = tmp_path / "t.networks.csv"
    [net] = networks(lambda b: 4.5 * block_ms(b), 1)
    write_networks(path, Context(), [replace(net, energy_mj=1234.5)])
    path.write_text(path.read_text().replace("1234.5", energy))
    with pytest.raises(error, match=message):
        read_networks(path)
