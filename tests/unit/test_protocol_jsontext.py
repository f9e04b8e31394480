"""JSON text that any language can read, or a sentence."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import InvalidJob
from supervisor.protocol.jsontext import decode, encode, encode_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_json_can_say_comes_back(value):
    assert decode(encode(value)) == value


@given(st.text(st.characters(codec=None, categories=None)))
def test_any_text_has_a_form_even_with_half_a_surrogate_pair(text):
    assert json.loads(encode_text(text)) == text
    assert decode(encode({"t": text})) == {"t": text}


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, {"a": -math.inf}], {"a": (None, math.nan)}])
def test_numbers_that_json_cannot_say_are_refused(value):
    with pytest.raises(InvalidJob, match="JSON"):
        encode(value)


def test_none_is_not_mistaken_for_a_number_that_cannot_be_said():
    assert encode({"a": None, "b": "null"}) == b'{"a":null,"b":"null"}'


def test_what_is_no_data_is_refused_with_a_sentence():
    with pytest.raises(InvalidJob, match="cannot be written as JSON"):
        encode({"a": object()})


def test_data_nested_too_deeply_is_refused_with_a_sentence():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidJob, match="too deeply"):
        encode(deep)


def test_integers_of_any_size_are_written_whole():
    assert encode(2**80) == str(2**80).encode()


@pytest.mark.parametrize("text", [b"{", b"", b"\xff", b'"\xff"', b"[" * 100_000, b"NaN oops"])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the library says
        decode(text)


def test_escapes_that_only_node_writes_are_read():
    assert decode(b'"\\ud83d"') == "\ud83d"
