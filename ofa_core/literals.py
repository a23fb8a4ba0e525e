"""Read a value from text: JSON, or a Python literal as programs print it.

Printed dictionaries may contain objects such as `np.int64(3)`, `array([3, 5])` or `tensor(7)`. They are read as the
numbers inside; nothing is called. A repeated key is an error, because one of its two values would be lost.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from ofa_core.errors import FormatError

__all__ = ["parse_value"]

_WORD = re.compile(r"'(\w*)'", re.ASCII)
_NONE = re.compile(r'(?<!["\w])None(?!["\w])')
# What numpy and torch print around numbers: np.int64(3), np.float32(0.5), array([3, 5]), tensor([7]).
_WRAPPER = re.compile(r"array|tensor|bool_?|(u?int|float)\d{1,3}")


def parse_value(text: str, source: str) -> Any:
    """Read JSON, or a Python literal.

    Args:
        text: content of a file or of a CSV field.
        source: name of the text, for errors.

    Raises:
        FormatError: for any other text, or a repeated key.
    """
    try:
        return _DECODER.decode(_as_json(text))
    except _RepeatedKeyError as error:
        raise FormatError(f"{source}: {error}") from error
    except (ValueError, RecursionError) as json_error:
        try:
            return _literal(text.strip())
        except _RepeatedKeyError as error:
            raise FormatError(f"{source}: {error}") from error
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            shown = str(json_error)[:200]
            raise FormatError(f"{source}: neither JSON nor a dictionary: {shown}") from json_error


class _RepeatedKeyError(Exception):
    """A dictionary with two values for one key."""


def _as_json(text: str) -> str:
    """Rewrite a plain Python dictionary whose strings are single words as JSON, which parses ten times as fast.

    Any other text is returned unchanged.
    """
    if "'" not in text or '"' in text or "\\" in text:
        return text
    quoted = _WORD.sub(r'"\1"', text)
    return text if "'" in quoted else _NONE.sub("null", quoted)


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        tree = ast.parse(text, mode="eval")
        return ast.literal_eval(_Unwrap().visit(tree))


class _Unwrap(ast.NodeTransformer):
    """Replace calls such as `np.int64(3)` by their argument; `literal_eval` refuses all other calls."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if len(node.args) != 1 or not _WRAPPER.fullmatch(name):
            return node
        inner: ast.AST = self.visit(node.args[0])
        return inner

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        _without_repeats([(key.value, None) for key in node.keys if isinstance(key, ast.Constant)])
        return self.generic_visit(node)


def _without_repeats(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise _RepeatedKeyError(f"{repr(repeated)[:60]} is given twice; one value of it is expected")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats)
