from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.errors import FormatError
from ofa_core.literals import parse_value

TEXTS = st.text(max_size=6) | st.sampled_from(["None", "a None", "x,None,y", "None-1", "it's", "a_None", 'say "ks"'])
ATOMS = st.none() | st.integers() | TEXTS | st.booleans()
VALUES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@given(VALUES)
def test_what_python_prints_is_read_as_python_reads_it(value: Any) -> None:
    assert parse_value(repr({"wid": None, "value": value}), "x") == {"wid": None, "value": value}


@pytest.mark.parametrize("text", ["{'a': 1, 'a': 2}", '{"a": 1, "a": 2}'])
def test_a_key_is_given_once(text: str) -> None:
    with pytest.raises(FormatError, match="'a' is given twice"):
        parse_value(text, "x")


@pytest.mark.parametrize("text", ["{'ks': (3, 5)}", "{'ks': 'a' 'b'}", "{'ks': [3,], 'd': None}", "{'e': b'x'}"])
def test_literals_that_are_not_json(text: str) -> None:
    assert parse_value(text, "x") == ast.literal_eval(text)
