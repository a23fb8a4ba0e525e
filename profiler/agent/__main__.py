"""Start the agent: `python -m profiler.agent --backend NAME`, or the packed `.pyz` with the same option."""

from __future__ import annotations

import sys

from profiler.agent.protocol import main

sys.exit(main(sys.argv[1:]))
