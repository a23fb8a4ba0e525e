"""Compare the versions that pyproject.toml allows, and those that are installed, with a list of known vulnerabilities.

It uses only `tools/known_vulnerabilities.toml`, without the network. A package that is not in this list is an error, so
that the advisories of a new dependency are looked up before it is used.

    python tools/check_versions.py [PYPROJECT] [LIST]
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def requirements(pyproject: dict[str, Any]) -> list[Requirement]:
    """Return the requirements of the project and its extras, except the project itself."""
    project = pyproject["project"]
    texts = [*project["dependencies"], *(t for extra in project["optional-dependencies"].values() for t in extra)]
    return [r for r in map(Requirement, texts) if r.name != project["name"]]


def lowest_version(requirement: Requirement) -> Version | None:
    """Return the oldest version that a requirement allows, or None if it has no lower bound."""
    lowest = [Version(s.version) for s in requirement.specifier if s.operator in (">=", "==", "~=")]
    return max(lowest, default=None)


def installed_version(name: str) -> Version | None:
    """Return the version in this environment, or None if the package is not installed."""
    try:
        return Version(version(name))
    except PackageNotFoundError:
        return None


def faults(asked: list[Requirement], known: dict[str, Any]) -> list[str]:
    """Return a line for each package that is not in the list, has no lowest version, or has an affected version."""
    lines = []
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        if name not in known:
            lines.append(f"{name}: look up its advisories and add it to tools/known_vulnerabilities.toml")
            continue
        lowest = lowest_version(requirement)
        if lowest is None:
            lines.append(f"{name}: {requirement} allows every version; name the oldest one")
        for advisory in known[name].get("advisories", ()):
            affected = SpecifierSet(advisory["affected"])
            for what, found in (("allows", lowest), ("has installed", installed_version(name))):
                if found is not None and "exempt" not in advisory and affected.contains(found, prereleases=True):
                    lines.append(f"{name}: this project {what} {found}, affected by {advisory['id']} ({affected})")
    return sorted(set(lines))


def main(
    pyproject: Path = ROOT / "pyproject.toml", listed: Path = ROOT / "tools" / "known_vulnerabilities.toml"
) -> int:
    """Print the result; return 1 if a version is affected or a package is not in the list."""
    asked = requirements(tomllib.loads(pyproject.read_text()))
    known = tomllib.loads(listed.read_text())
    reviewed = known.pop("reviewed")
    lines = faults(asked, known)
    n_advisories = sum(len(package.get("advisories", ())) for package in known.values())
    print(f"{len(asked)} requirements against {n_advisories} advisories known on {reviewed}; newer ones: make audit")
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
