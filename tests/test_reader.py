"""What users write, read by YAML 1.2's core schema: what is a number, what stays a text, and what is refused."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from toposampler.errors import UserError
from toposampler.reader import MAX_BYTES, MAX_DEPTH, Scalar, parse, plain, read_argument, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("null", "Null", "NULL", "~", "")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        *[("0", 0), ("-7", -7), ("+12", 12), ("0o17", 15), ("0x1F", 31), ("1000", 1000)],
        *[("1e-4", 1e-4), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-1.5e+3", -1500.0), ("0.1", 0.1)],
        *[(".inf", math.inf), ("-.INF", -math.inf), ("9" * 100, int("9" * 100))],
        # YAML 1.1 alone reads these as something else; with a leading zero, the readers of the world differ.
        *[(text, text) for text in ("yes", "no", "on", "off", "y", "n", "tRue", "nULL", "2024-01-05", "2024_01_05")],
        *[
            (text, text)
            for text in ("010", "007", "00.5", "-01", "1_000", "1:30", "0b1", "0X1F", "0o8", "1e", "e5", ".")
        ],
        *[(text, text) for text in ("=", "<<", "infinity", "nan", "9" * 101)],
    ],
)
def test_the_core_schema(text: str, value: Any) -> None:
    read = parse(text) if text else parse("- ")[0]
    assert read == text, "the text stays what was written"
    assert isinstance(read, Scalar)
    assert read.value == value
    assert type(read.value) is type(value)
    assert type(parse(f"'{text}'")) is str
    assert read_argument(text).value == value


def test_not_a_number_is_one() -> None:
    assert math.isnan(parse(".nan").value)


def test_all_that_pyyaml_writes_is_read_back() -> None:
    """But for texts that are numbers by 1.2 only, which it does not quote: a text key takes them as texts."""
    content = {"a": [1, 2.5, 1e-5, 1e22, True, None, "no", "007", "x: y", "a\nb", "", " ", "é", "#", "0x10"]}
    assert plain(parse(yaml.safe_dump(content))) == content
    assert parse(yaml.safe_dump("1e-4").split("\n")[0]) == "1e-4"


def test_an_argument_keeps_what_was_typed_and_knows_what_it_means() -> None:
    given = read_argument("[0.4, {a: 1}]")
    assert (given, given.value) == ("[0.4, {a: 1}]", ["0.4", {"a": "1"}])
    assert plain(given) == [0.4, {"a": 1}]
    assert read_argument("a: b: c").value == "a: b: c"
    with pytest.raises(UserError, match="arguments are texts in UTF-8"):
        read_argument(os.fsdecode(b"\xff"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: !!int ''", r"tags such as tag:yaml.org,2002:int are not read \(line 1, column 4\)"),
        ("a: !!bool x", "tags such as"),
        ("a: !!timestamp x", "tags such as"),
        ("a: !!set {b}", "tags such as"),
        ("a: !!binary ä", "tags such as"),
        ("a: !!python/object/apply:os.system [ls]", "tags such as"),
        ("a: !mine 1", "tags such as !mine"),
        ("a: 1\nb: 2\na: 3", r"a: given twice \(line 3, column 1\)"),
        ("? [1, 2]\n: 3", "a key must be a text"),
        ("? {a: 1}\n: 3", "a key must be a text"),
        ("a: *b", r"\*b names nothing that stands before it"),
        ("a: &b [*b]", r"\*b names nothing that stands before it"),
        ("a: 1\n---\nb: 2", "more than one document"),
        ("a: " + "[" * 3000, "more than 32 deep"),
        ("a: " + "{b: " * 3000, "more than 32 deep"),
        ('a: "\\Uffffffff"', "an escape that is no character"),
        ('a: "\\ud800"', "holds what is no character"),
        ('a: "\\0"', "holds what is no character"),
        ("a: \x00", "special characters are not allowed"),
        ("a: \udcff", "not valid YAML"),
        ("a: [", "not valid YAML"),
        ("%YAML 3.0\n---\na: 1", "version"),
        ("a: b: c", "mapping values are not allowed here"),
        ("\ta: 1", "not valid YAML"),
        ("- 1", "must hold a mapping of keys to values, not a list"),
        ("x", "must hold a mapping of keys to values, not the value 'x'"),
        ("", "must hold a mapping of keys to values, not nothing"),
        ("# only a remark", "must hold a mapping of keys to values, not nothing"),
        ("a: " + "x" * MAX_BYTES, "is larger than a configuration can be"),
    ],
)
def test_what_is_not_read_is_said_in_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(tmp_path / "bad.yaml")
    assert str(tmp_path / "bad.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


def test_aliases_are_values_and_a_bomb_of_them_is_refused() -> None:
    assert plain(parse("a: &x {b: 1}\nc: *x")) == {"a": {"b": 1}, "c": {"b": 1}}
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9)]
    with pytest.raises(ValueError, match="more than 100,000 values"):
        parse("\n".join(lines))


def test_nesting_to_the_bound_is_read() -> None:
    assert plain(parse("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH))
    with pytest.raises(ValueError, match="deep"):
        parse("[" * (MAX_DEPTH + 1) + "1" + "]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("place", ["/dev/zero", "a folder", "a\0b"])
def test_what_is_no_file_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    with pytest.raises(UserError, match=r"larger than|Is a directory|null byte"):
        read_yaml(tmp_path / place)


def test_nothing_but_a_value_error_comes_out_of_altered_text() -> None:
    """8,000 texts, each a few characters of a good one replaced by others that YAML gives a meaning."""
    good = "name: a\ndata: {name: lines, weights: [0.5, 1e-3]}\nsystem:\n  name: &x 'q'\n  b: *x\n  c: |\n    text\n"
    rng = random.Random(0)
    read = 0
    for _ in range(8000):
        text = list(good)
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.choice(" \n\t:,[]{}&*!|>'\"%@`#-?~01e.x\\\0\ufeff\x85\ud800é")
        try:
            parse("".join(text))
            read += 1
        except ValueError:
            pass
    assert 1000 < read < 7000
