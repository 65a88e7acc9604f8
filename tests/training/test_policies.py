"""Policies of somebody else: what is read steers within bounds, and everything else is refused."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from fuzz import CASES, damaged_bytes, damaged_document

from autoexp.errors import PlanError
from autoexp.training.deployed import Trained
from autoexp.training.learning import Training
from autoexp.training.policies import Policy

pytest.importorskip("safetensors")

RNG = np.random.default_rng(0)
GOOD = {
    "0.weight": RNG.normal(size=(8, 5)).astype("f4"),
    "0.bias": np.zeros(8, "f4"),
    "1.weight": RNG.normal(size=(2, 8)).astype("f4"),
    "1.bias": np.zeros(2, "f4"),
}
CARD = {"format": 1, "activation": "tanh", "layers": 2, "training": Training().model_dump(mode="json")}
AWAY = np.array([[3.0, 4.0], [1e6, -1e6], [0.0, 0.0]])


def weights(tensors, change=lambda header: header, length=None, tail=b""):
    """A safetensors file, as its format says, with a header that may lie."""
    header, data = {}, b""
    for name, array in tensors.items():
        kind = {"f4": "F32", "f8": "F64", "i4": "I32", "b1": "BOOL"}[array.dtype.str[1:]]
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    text = json.dumps(change(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data + tail


def saved(folder, card=CARD, content=None):
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_bytes(card if isinstance(card, bytes) else json.dumps(card).encode())
    (folder / "policy.safetensors").write_bytes(weights(GOOD) if content is None else content)
    return folder


def lying(name, **said):
    return weights(GOOD, lambda header: {**header, name: {**header[name], **said}})


def with_weights(**changes):
    return weights({**GOOD, **{name.replace("_", "."): array for name, array in changes.items()}})


def test_what_is_good_steers(tmp_path):
    assert np.isfinite(Trained(Policy.load(saved(tmp_path))).moves(AWAY)).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        weights(GOOD)[:-7],
        weights(GOOD, tail=b"x"),
        weights(GOOD, length=2**63),
        weights(GOOD, length=200_000_000),
        weights(GOOD, lambda header: [header]),
        weights(GOOD, lambda header: {**header, "2.weight": header["0.weight"]}),
        lying("0.weight", shape=[2**40, 2**40]),
        lying("0.weight", shape=[2**63, 2**63]),
        lying("0.weight", shape=[-8, -5]),
        lying("0.weight", shape=[True, 40]),
        lying("0.weight", shape=[40]),
        lying("0.weight", dtype="F64"),
        lying("0.weight", dtype=["F32"]),
        lying("1.bias", data_offsets=[0, 8]),
        lying("0.bias", data_offsets=[192, 160]),
        struct.pack("<Q", 300_000) + b"[" * 300_000,
        b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
        with_weights(**{"0_weight": np.full((8, 5), np.nan, "f4")}),
        with_weights(**{"0_weight": np.full((8, 5), np.inf, "f4")}),
        with_weights(**{"0_weight": np.full((8, 5), 3e38, "f4"), "1_weight": np.full((2, 8), -3e38, "f4")}),
        with_weights(**{"0_weight": np.zeros((0, 5), "f4"), "0_bias": np.zeros(0, "f4")}),
        with_weights(**{"1_weight": np.zeros((2, 7), "f4")}),
        weights({name: array.astype("f8") for name, array in GOOD.items()}),
        weights({name: array.astype("b1") for name, array in GOOD.items()}),
    ],
)
def test_weights_that_are_none_are_refused(tmp_path, content):
    with pytest.raises(PlanError, match=r"^The policy in .* cannot be read: .*\.$"):
        Policy.load(saved(tmp_path, content=content))


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"[]",
        b"[" * 300_000,
        b'{"layers": ' + b"9" * 5000 + b"}",
        b'{"format": 1, "layers": 2, "layers": 1, "activation": "tanh"}',
        *({**CARD, "layers": n} for n in (0, -1, 1, 3, 10**9, True, "2", 2.0, None, [2])),
        *({**CARD, "activation": a} for a in ("exec", [], None, {})),
        {**CARD, "format": [1]},
    ],
)
def test_cards_that_are_none_are_refused(tmp_path, card):
    with pytest.raises(PlanError, match=r"^The policy in .* cannot be read: .*\.$"):
        Policy.load(saved(tmp_path, card=card))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("binning", n) for n in (0, 3, 10**9, "4")),
        *(("tolerance", x) for x in (-1, 1e308, True)),
        *(("step_size", x) for x in (0, 1e-300, 1e300)),
        *(("scale", x) for x in (0, -1, 1e-300, 1e308)),
        ("rotation_deg", 1e308),
    ],
)
def test_what_it_says_of_its_training_has_to_be_physical(tmp_path, name, value):
    training = {**CARD["training"], "environment": {**CARD["training"]["environment"], name: value}}
    policy = Policy.load(saved(tmp_path, card={**CARD, "training": training}))
    with pytest.raises(PlanError, match=f"environment.{name}"):
        Trained(policy)


def test_sizes_are_known_before_anything_is_read(tmp_path):
    for name, says in (("card.json", "at most 1,000,000"), ("policy.safetensors", "at most 256,000,000")):
        folder = saved(tmp_path / name)
        with (folder / name).open("r+b") as file:
            file.truncate(1 << 40)
        with pytest.raises(PlanError, match=says):
            Policy.load(folder)


@pytest.mark.parametrize("name", ["card.json", "policy.safetensors"])
def test_links_out_of_its_folder_are_not_followed(tmp_path, name):
    folder = saved(tmp_path / "theirs")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(PlanError, match="is a link"):
        Policy.load(folder)


def test_one_that_sees_something_else_says_so(tmp_path):
    other = with_weights(**{"0_weight": np.zeros((8, 3), "f4")})
    policy = Policy.load(saved(tmp_path, content=other))
    with pytest.raises(PlanError, match="takes 3 numbers"):
        policy.act(np.ones(5))
    with pytest.raises(PlanError, match="takes 3 numbers"):
        Trained(policy)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_move_is_a_number_whatever_is_seen(tmp_path, activation):
    large = with_weights(**{"0_weight": np.full((8, 5), 1e6, "f4"), "1_weight": np.full((2, 8), -1e6, "f4")})
    policy = Policy.load(saved(tmp_path, card={**CARD, "activation": activation}, content=large))
    for seen in (0.0, 1e308, -1e308, np.inf, np.nan):
        assert np.abs(policy.act(np.full(5, seen))).max() <= 1


def test_damaged_policies_are_read_or_refused(tmp_path):
    content = weights(GOOD)
    for number in range(CASES):
        card = damaged_document(CARD, number) if number % 2 else CARD
        folder = saved(tmp_path, card, damaged_bytes(content, number, 400) if not number % 2 else content)
        try:
            moves = Trained(Policy.load(folder)).moves(AWAY)
        except PlanError:
            continue
        assert np.isfinite(moves).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "policy.safetensors"]
