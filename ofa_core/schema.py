"""Check the content of a file against a dataclass.

A field's type is its check: `int`, `float` (finite; a whole number is accepted), `str`, `bool`, lists, tuples,
dictionaries, other dataclasses, `X | None`, and the ranges below. Nothing is converted from one type to another.

    @dataclass(frozen=True)
    class Pilot:
        repeats: list[Count]
        n_rounds: Positive

    pilot = structured(json.loads(text), Pilot, "x.json")   # FormatError: x.json: repeats[3] is -1; ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from ofa_core.errors import FormatError

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["Count", "NonNegative", "Positive", "PositiveCount", "Range", "structured"]

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]  # (value, shape) -> checked value
MAX_INT = 2**63 - 1
MAX_NUMBER = 1e15  # sums and products of a few thousand of them are finite
MAX_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value of a number, used as `Annotated[int, Range(1, 100)]`.

    Attributes:
        low: smallest value.
        high: largest value (default: the largest that a file may hold).
        above: True if values must be greater than `low`.
    """

    low: float
    high: float | None = None
    above: bool = False

    def __contains__(self, number: float) -> bool:
        enough = number > self.low if self.above else number >= self.low
        return enough and (self.high is None or number <= self.high)

    def __str__(self) -> str:
        return f"{'>' if self.above else '>='} {self.low:g}" + ("" if self.high is None else f" and <= {self.high:g}")


Count = Annotated[int, Range(0)]
PositiveCount = Annotated[int, Range(1)]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]


def structured(value: Any, shape: type[T], where: str) -> T:
    """Return parsed JSON or TOML as an instance of a dataclass.

    Args:
        value: result of a parser; fields that the dataclass lacks are ignored.
        shape: the dataclass, or any other type.
        where: name of the file, for errors.

    Raises:
        FormatError: for a missing or wrong field; names it, its value, and the valid ones.
    """
    from cattrs import BaseValidationError, transform_error

    try:
        return _converter().structure(value, shape)
    except BaseValidationError as error:
        first = transform_error(error, "", lambda e, _type: _words(e))[0]
        reason, _, path = first.rpartition(" @ ")
        path = _shortened(path.removeprefix("."))
        raise FormatError(f"{where}: {f'{path} ' if path else ''}{reason}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{where}: {str(error) or type(error).__name__}") from error


def _words(error: BaseException) -> str:
    if isinstance(error, KeyError):  # a field that is not there
        return "is missing"
    return str(error)


@cache
def _converter() -> Converter:
    from cattrs import Converter
    from cattrs.cols import homogenous_tuple_structure_factory, list_structure_factory, mapping_structure_factory

    converter = Converter(detailed_validation=True)
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _check_of(kind))

    def register(
        fits: Callable[[Any], bool], wanted: type | tuple[type, ...], words: str, make: Callable[[Any, Converter], Hook]
    ) -> None:
        def factory(shape: Any) -> Hook:
            return _if_it_is(wanted, words, make(shape, converter))

        converter.register_structure_hook_factory(fits, factory)

    register(is_dataclass, dict, "an object", _dataclass)
    register(lambda shape: get_origin(shape) is dict, dict, "an object", mapping_structure_factory)
    register(lambda shape: get_origin(shape) is list, (list, tuple), "a list", list_structure_factory)
    register(lambda shape: get_origin(shape) is tuple, (list, tuple), "a list", homogenous_tuple_structure_factory)
    register(_is_fixed_tuple, (list, tuple), "a list", _fixed_tuple)
    converter.register_structure_hook_factory(_is_ranged, _ranged)
    return converter


def _if_it_is(wanted: type | tuple[type, ...], words: str, hook: Hook) -> Hook:
    """Check the type of a value before it is converted: text is not a list, and a list is not an object."""

    def structure(value: Any, shape: Any) -> Any:
        if not isinstance(value, wanted):
            raise TypeError(f"is {_shown(value)}; {words} is expected")
        return hook(value, shape)

    return structure


def _dataclass(shape: Any, converter: Converter) -> Hook:
    from cattrs.gen import make_dict_structure_fn

    hints = get_type_hints(shape, include_extras=True)
    for field in fields(shape):
        field.type = hints[field.name]  # cattrs resolves a type that is a text without its range
    return make_dict_structure_fn(shape, converter)


def _is_fixed_tuple(shape: Any) -> bool:
    return get_origin(shape) is tuple and Ellipsis not in get_args(shape)


def _fixed_tuple(shape: Any, converter: Converter) -> Hook:
    kinds = get_args(shape)
    hooks = [converter.get_structure_hook(kind) for kind in kinds]

    def structure(value: Any, _shape: Any) -> Any:
        if len(value) != len(kinds):
            raise ValueError(f"has {len(value)} values; {len(kinds)} are expected")
        return tuple(hook(item, kind) for hook, item, kind in zip(hooks, value, kinds, strict=True))

    return structure


def _is_ranged(shape: Any) -> bool:
    return get_origin(shape) is Annotated


def _ranged(shape: Any) -> Hook:
    check, ranges = _check_of(shape.__origin__), [m for m in shape.__metadata__ if isinstance(m, Range)]

    def structure(value: Any, kind: Any) -> Any:
        number = check(value, kind)
        for wanted in ranges:
            if number not in wanted:
                raise ValueError(f"is {number}; a number {wanted} is expected")
        return number

    return structure


def _check_of(kind: type) -> Hook:
    return {bool: _bool, int: _int, float: _float, str: _str}[kind]


def _bool(value: Any, _kind: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"is {_shown(value)}; true or false is expected")
    return value


def _int(value: Any, _kind: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_INT:
        raise ValueError(f"is {_shown(value)}; a whole number is expected")
    return value


def _float(value: Any, _kind: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= MAX_NUMBER:
        raise ValueError(f"is {_shown(value)}; a finite number is expected")
    return float(value)


def _str(value: Any, _kind: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"is {_shown(value)}; text is expected")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"is {_shown(value)}; text that can be written is expected") from None
    return value


def _shown(value: Any) -> str:
    try:
        text = ascii(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of very many digits"
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
