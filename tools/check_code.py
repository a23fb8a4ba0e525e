"""Check sizes: no product file over 400 lines, no function over 60 lines or with more than six parameters.

Command signatures may have more parameters: each is an option. A dataclass has no signature of its own to check.
Prints a line for each fault and exits with 1 if there is any.

    python tools/check_code.py
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("devices", "ofa_core", "predictors", "profiler")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6
# At most five, each with the reason why splitting it would make the code harder to read.
EXCEPTIONS: dict[str, str] = {}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def is_command(node: FunctionNode) -> bool:
    """Return True if a typer application calls the function, so that its parameters are options."""
    return any(
        isinstance(call := decorator, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in {"command", "callback"}
        for decorator in node.decorator_list
    )


def faults_of(path: Path) -> Iterator[str]:
    """Yield the faults of one file, a line each."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    n_lines = text.count("\n")
    if n_lines > MAX_FILE_LINES:
        yield f"{name}: {n_lines} lines, at most {MAX_FILE_LINES} allowed"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, FunctionNode) or f"{name}:{node.name}" in EXCEPTIONS:
            continue
        arguments = node.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        n_parameters = sum(parameter.arg not in {"self", "cls"} for parameter in parameters)
        if n_parameters > MAX_PARAMETERS and not is_command(node):
            yield f"{name}:{node.lineno}: {node.name} has {n_parameters} parameters, at most {MAX_PARAMETERS} allowed"
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        length = (node.end_lineno or node.lineno) - body[0].lineno + 1 if body else 0
        if length > MAX_FUNCTION_LINES:
            yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES} allowed"


def main() -> int:
    """Check all product files."""
    if len(EXCEPTIONS) > 5:
        sys.exit("more than five exceptions")
    faults = [
        fault for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) for fault in faults_of(path)
    ]
    print("\n".join(faults) or "sizes are within the limits")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
