"""`ofa-profile`, or `ofa-search ...`, with sessions as short as can be: for emulated phones, whose times mean nothing.

The command line is the user's. Only the default numbers of rounds, processes and whole networks are smaller, and so is
the speed probe, which takes a second of an emulator's time after each measurement.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from ofa_core.blocks import BlockSpec
from profiler import plan

plan.PROBE = BlockSpec("mbconv", 8, 8, 16, 48, 16, 3, 1, "relu", se=False, shortcut=True)
from profiler import campaign, cli, settings  # noqa: E402  they import the probe

SHORT = {"n_processes": 3, "min_visit_ms": 0.0, "min_repeats": 9, "max_repeats": 9, "min_rounds": 1, "max_rounds": 1}
_Settings = settings.Settings


def _short(**given: Any) -> settings.Settings:
    return _Settings(**{**given, **SHORT})


if __name__ == "__main__":
    settings.Settings = _short  # type: ignore[assignment, misc]
    campaign.ProfileSpec = partial(campaign.ProfileSpec, n_reference=2)  # type: ignore[assignment, misc]
    main = cli.main
    if sys.argv[1:2] == ["ofa-search"]:
        from ofa_core.search.cli import main

        del sys.argv[1]
    sys.exit(main())
