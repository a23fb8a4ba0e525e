"""The commands of the documentation: each has options that exist, and is run here or listed with the reason."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
PROGRAM = re.compile(r"(?:    )?((?:ofa-(?:profile|predict|search|train)|make|pip|git|source)\b.*)")

# In this order, in one folder. What the first ones write, the next ones read.
RUN = (
    "ofa-profile --space tiny --budget-s 20 --out luts/tiny.csv",
    "ofa-profile report luts/tiny.csv --out tiny.html",
    "ofa-search --lut luts/tiny.csv --max-latency-ms 5 --accuracy proxy:macs --out tiny-result",
    "ofa-predict tiny-result/arch.json --lut luts/tiny.csv",
    "ofa-profile devices",
    "ofa-profile space tiny > my.toml",
    "ofa-profile compare old.csv new.csv --fail-above 3% --markdown gate.md --junit gate.xml",
    "ofa-profile convert luts/local-onnxruntime.csv yaml-tables",
    "ofa-profile share luts/local-onnxruntime.csv --licence CC-BY-4.0",
    "ofa-predict arch.json",
    "ofa-predict nets.jsonl --lut phone.csv --csv",
    "ofa-train hub list",
    "ofa-train hub list --device note10",
    "ofa-train hub verify",
)
# Patterns of the others, and why they are not run here.
LISTED = {
    r"git clone .*|source .*|make install|pip install .*": "sets up a machine; CI does the same by `make`",
    r"make (demo|test).*": "this test is part of it, and CI runs it",
    r".*(adb:|ssh:).*|ofa-profile setup .*": "needs a device; tests/devices has its own",
    r".*--delegate cuda.*": "needs an NVIDIA GPU",
    r".*\bhub:.*|ofa-train hub (get|verify --download).*": "downloads; tests/test_photo_folder.py has a local server",
    r".*https://example.org.*|.*hub:USER.*": "has a placeholder for an address",
    r"ofa-profile( --target local| --threads .*)?": "takes 4 minutes; the same with --space tiny is run",
    r"ofa-profile verify --lut luts/local.*": "takes 3 minutes; tests/profiler/test_cli.py verifies a small table",
    r"ofa-profile --space my.toml.*|ofa-search --lut luts/my.csv.*": "takes a minute; tests/test_examples.py does it",
    r"ofa-search report shared .*": "tests/ofa_core/search/test_device_results.py reports a small search",
    r"ofa-search --lut (luts/(local|pixel2|board)|pixel2.csv).*": "needs tables of mbv3-w1.0; `make demo` has one",
    r"ofa-(train|search|predict) .*(supernet|subnet|finetune|accuracy-table|calibrate|weights|board|imagefolder).*": (
        "needs trained weights or images; tests/ofa_core/train and tests/test_photo_folder.py have them"
    ),
    r"ofa-profile .*--dtype int8": "takes 4 minutes; tests/profiler/agent/backends/test_integer.py runs int8 models",
    r"ofa-train": "takes minutes; tests/test_examples.py trains a smaller net",
}


def documented() -> dict[str, str]:
    """Return each command in a code block of the pages, without comment, and the first page that has it."""
    found: dict[str, str] = {}
    for page in PAGES:
        fenced = False
        for line in page.read_text().splitlines():
            if line.strip().startswith("```"):
                fenced = not fenced
            match = PROGRAM.fullmatch(line) if fenced or line.startswith("    ") else None
            if match:
                found.setdefault(re.sub(r"\s+#.*", "", match[1]).strip(), str(page.relative_to(ROOT)))
    return found


COMMANDS = documented()


def reason_of(command: str) -> str | None:
    return next((reason for pattern, reason in LISTED.items() if re.fullmatch(pattern, command)), None)


def test_each_command_is_run_or_listed() -> None:
    stale = [command for command in RUN if command not in COMMANDS]
    assert not stale, "no page has these commands any more"
    unknown = {command: page for command, page in COMMANDS.items() if command not in RUN and reason_of(command) is None}
    assert not unknown, "run these commands of the pages, or list them with the reason"
    unused = [pattern for pattern in LISTED if not any(re.fullmatch(pattern, command) for command in COMMANDS)]
    assert not unused, "no page has commands of these patterns"
    print(f"{len(COMMANDS)} commands: {len(RUN)} run, {len(COMMANDS) - len(RUN)} listed with the reason")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("ofa-")])
def test_each_option_exists(command: str) -> None:
    name, *words = shlex.split(command)
    module = SCRIPTS[name].split(":")[0]
    action = typer.main.get_command(import_module(module).app)
    while words and (commands := getattr(action, "commands", {})) and words[0] in commands:
        action = commands[words.pop(0)]
    options = {option for parameter in action.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if re.match(r"-{1,2}[a-z]", word) and word.split("=")[0] not in options]
    assert not unknown, f"{COMMANDS[command]}: {command}"


def test_each_page_can_be_reached() -> None:
    nav = (ROOT / "mkdocs.yml").read_text()
    decisions = (ROOT / "docs" / "adr" / "README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        listed = f"({page.name})" in decisions if re.match(r"adr/\d", name) else f": {name}\n" in nav
        assert listed, name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with the names that the pages use: tables, architectures, a list of networks."""
    from ofa_core.arch_json import arch_to_dict, write_arch
    from ofa_core.context import Context
    from ofa_core.spaces import tiny
    from ofa_core.table import Entry, LatencyTable

    path, space = tmp_path_factory.mktemp("docs"), tiny()
    context = Context(device="made-up", backend="onnxruntime", backend_version="1.0", statistic="mean@1000us")
    entries = {(None, block): Entry(0.01 + block.macs / 1e7, ci90_ms=1e-4) for block in space.all_blocks()}
    for name in ("luts/local-onnxruntime.csv", "old.csv", "new.csv", "phone.csv"):
        LatencyTable(context, entries).write(path / name)
    arch = space.smallest()
    write_arch(path / "arch.json", arch, space)
    (path / "nets.jsonl").write_text(f"{arch_to_dict(arch, space)}\n".replace("'", '"').replace("None", "null"))
    return path


@pytest.mark.slow
def test_the_others_run(folder: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    for command in RUN:
        environment = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [bash, "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        # 3: a session was too unsteady for its claims, which a busy machine may cause.
        assert done.returncode in (0, 3), f"{command}\n{done.stderr}"
        print(f"{command}\n{done.stdout[-300:]}")
    written = ("tiny.html", "tiny-result/report.html", "my.toml", "gate.md", "gate.xml", "yaml-tables")
    for name in (*written, "luts/local-onnxruntime.share.zip"):
        assert (folder / name).exists(), name
