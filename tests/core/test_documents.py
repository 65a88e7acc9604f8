"""JSON of somebody else: read if it is plain, else refused in a sentence, at once."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest
from fuzz import CASES, damaged_document
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexp.documents import MAX_BYTES, MAX_DEPTH, check_depth, parse_json, read_bytes, read_json
from autoexp.errors import PlanError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(PLAIN, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]), st.booleans())
def test_what_is_plain_is_read_as_it_was_written(value, encoding, escaped):
    text = json.dumps(value, ensure_ascii=escaped)
    assert parse_json(text, "It") == value
    assert parse_json(text.encode(encoding), "It") == value


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("1 2", "not JSON"),
        (b"\0", "not JSON"),
        (b"\xff\xff", "UTF-8"),
        (b"\xff\xfe\x00", "UTF-8"),
        ('"a\nb"', "not JSON"),
        ("[" * 200_000, "nested more than 64 deep"),
        ('{"a":' * 200_000, "nested more than 64 deep"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested more than 64 deep"),
        ("1" * 5000, "5,000 digits"),
        ("-" + "1" * 5000, "5,001 digits"),
        ("0." + "1" * 5000, "5,002 digits"),
        ("1e" + "1" * 5000, "5,002 digits"),
        ("1e999", "too large to be one"),
        ("-1e999", "too large to be one"),
        ("NaN", "NaN"),
        ("[Infinity]", "Infinity"),
        ("-Infinity", "Infinity"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('[{"b": {"c": 1, "\\u0063": 1}}]', "'c' twice"),
        ('"\\udcff"', "half of a character"),
        ('{"\\ud800": 1}', "half of a character"),
        ('"\udcff"', "half of a character"),
        (" " * (MAX_BYTES + 1), "at most 4,000,000"),
        (b" " * (MAX_BYTES + 1), "at most 4,000,000"),
    ],
)
def test_what_is_not_is_refused_in_a_sentence(document, says):
    with pytest.raises(PlanError, match=f"The thing.*{says}.*\\.$"):
        parse_json(document, "The thing")


def test_brackets_in_texts_are_no_depth_and_what_is_deep_enough_is_read():
    assert parse_json(json.dumps(["[" * 200, '"]' * 200, "\\" * 99, '\\"' * 50]), "It")[0] == "[" * 200
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "It")
    assert len(parse_json("[" + ",".join(["[[]]"] * 10_000) + "]", "It")) == 10_000


@settings(deadline=None)
@given(st.text('[]{}"\\a', max_size=200), st.integers(0, 6))
def test_depth_is_what_a_parser_would_meet(text, most):
    """Character by character, as the rules of JSON say it."""
    depth, deepest, quoted, escaped = 0, 0, False, False
    for c in text:
        if quoted:
            quoted, escaped = (c != '"' or escaped), (c == "\\" and not escaped)
        elif c == '"':
            quoted = True
        else:
            depth += (c in "[{") - (c in "]}")
            deepest = max(deepest, depth)
    if deepest > most:
        with pytest.raises(ValueError, match="nested"):
            check_depth(text, most)
    else:
        check_depth(text, most)


@pytest.mark.parametrize("text", ['"\\' * 1_000_000, '["' * 1_000_000, "[]" * 1_500_000, '"' + "\\\\" * 1_500_000])
def test_no_text_takes_long(text):
    began = time.process_time()
    with pytest.raises(PlanError):
        parse_json("[" * 60 + "]" * 60 + text, "It")
    assert time.process_time() - began < 5  # in proportion to its length: a second or so on a slow machine


def test_a_file_is_named_and_only_files_are_read(tmp_path):
    good = tmp_path / "good.json"
    good.write_text('{"a": 1}')
    assert read_json(good, "The plan") == {"a": 1}
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "link.json").symlink_to(good)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.json"))
        for name in ("fifo.json", "folder.json", "loop.json", "socket.json", "none.json", "a\0b", "x" * 300):
            with pytest.raises(PlanError, match=r"^The plan .* cannot be read"):
                read_json(tmp_path / name, "The plan")
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(PlanError, match="not a regular file"):
            read_json(device, "The plan")
    assert read_json(tmp_path / "link.json", "The plan") == {"a": 1}
    with pytest.raises(PlanError, match="is a link"):
        read_json(tmp_path / "link.json", "The plan", follow=False)
    with pytest.raises(PlanError, match="cannot be read"):
        read_json("bad\udcff\x1b[2J", "The plan")


def test_size_is_known_before_anything_is_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)  # a file of nothing, a terabyte long
    with pytest.raises(PlanError, match="at most 10"):
        read_bytes(tmp_path / "large", "The file", 10)
    grows = "/proc/self/status"  # says that it is empty, and is not
    if os.path.exists(grows):
        with pytest.raises(PlanError, match="at most 10"):
            read_bytes(grows, "The file", 10)


def test_damaged_documents_are_read_or_refused():
    document = {"a": [1, 2.5, "x", None, {"b": True}], "c": {"d": [[[]]], "e": -1e-5}}
    for number in range(CASES):
        try:
            parse_json(damaged_document(document, number), "The plan")
        except PlanError:
            continue
