"""Print the lowest versions that pyproject.toml allows, as pip constraints: `numpy==1.26` for `numpy>=1.26`.

    python tools/minimum_versions.py > minimum.txt

Extras on the command line add their packages: `minimum_versions.py energy tflite`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def minimum(requirement: str) -> str | None:
    """Return the constraint for one requirement, or None if it has no lower bound."""
    found = re.match(r"\s*([\w.-]+)[^;]*?>=\s*([\w.]+)", requirement)
    return f"{found[1]}=={found[2]}" if found else None


def main(extras: list[str]) -> int:
    """Print the constraints of the base installation and of `extras`."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    for name in extras:
        if name not in known:
            sys.exit(f"there is no extra {name!r}; there are {', '.join(known)}")
    requirements = [*project["dependencies"], *(r for name in extras for r in known[name])]
    print("\n".join(sorted({line for line in map(minimum, requirements) if line})))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
