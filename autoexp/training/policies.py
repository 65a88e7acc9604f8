"""A learned policy by itself: a small network in plain arrays, kept as safetensors with a card that says what it is.

It needs neither torch nor the library that trained it, and nothing that is read from its files is ever run.
"""

from __future__ import annotations

import json
import math
import pathlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.documents import parse_json, read_bytes, read_json, shown
from autoexp.errors import MissingDependencyError, PlanError

Array = npt.NDArray[np.float32]
Activation = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

WEIGHTS, CARD = "policy.safetensors", "card.json"
FORMAT = 1
MAX_CARD_BYTES = 1_000_000
MAX_WEIGHTS_BYTES = 256_000_000
MAX_LAYERS, MAX_WIDTH, MAX_WEIGHT = 16, 8192, 1e6
"""What is larger was not trained."""
FARTHEST = 1e6
"""What is seen beyond is taken for this, so that no layer overflows."""
ACTIVATIONS: dict[str, Activation] = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}


@dataclass(frozen=True)
class Policy:
    """Observation in, action out: layers with an activation between them, and tanh after the last.

    Attributes:
        layers: weights (out, in) and biases (out,) of each layer.
        activation: "tanh" or "relu".
        card: what is known of it: how it was trained, on what, and how it did.
    """

    layers: tuple[tuple[Array, Array], ...]
    activation: str
    card: dict[str, Any]

    def act(self, observation: npt.ArrayLike) -> Array:
        """The action (..., 2), each part -1 to 1, that it takes without exploring; where it has none, it stays.

        Raises:
            PlanError: it takes observations of another length.
        """
        x = np.clip(np.asarray(observation, dtype=np.float64), -FARTHEST, FARTHEST)
        if x.shape[-1:] != self.layers[0][0].shape[1:]:
            raise PlanError(f"The policy takes {self.layers[0][0].shape[1]} numbers, not an array of shape {x.shape}.")
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T.astype(np.float64) + bias
            if i < len(self.layers) - 1:
                x = ACTIVATIONS[self.activation](x)
        return np.nan_to_num(np.tanh(x), nan=0.0).astype(np.float32)

    def save(self, folder: pathlib.Path) -> None:
        """Write it to a folder, which is made."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for i, (weight, bias) in enumerate(self.layers):
            tensors[f"{i}.weight"], tensors[f"{i}.bias"] = np.ascontiguousarray(weight), np.ascontiguousarray(bias)
        save_file(tensors, str(folder / WEIGHTS))
        head = {"format": FORMAT, "activation": self.activation, "layers": len(self.layers)}
        (folder / CARD).write_text(json.dumps({**head, **self.card}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: pathlib.Path) -> Policy:
        """Read it from a folder.

        Raises:
            PlanError: there is none, or it is not what its card says; the message says what is wrong.
            MissingDependencyError: safetensors is not installed.
        """
        try:
            from safetensors.numpy import load
        except ImportError as error:
            raise MissingDependencyError(
                "A learned policy is kept as safetensors, which is not installed. Install it with: "
                "pip install 'nionswift-autoexp[rl]'"
            ) from error
        if not (folder / CARD).exists():
            raise PlanError(f"There is no policy in {shown(folder)}: it has no {CARD}. Name another folder.")
        what = f"The policy in {shown(folder)} cannot be read"
        try:
            card = read_json(folder / CARD, "Its card", MAX_CARD_BYTES, follow=False)
            count = _layers(card)
            content = read_bytes(folder / WEIGHTS, "Its file of weights", MAX_WEIGHTS_BYTES, follow=False)
            _check_header(content, count)
            tensors = load(content)
            layers = tuple((tensors[f"{i}.weight"], tensors[f"{i}.bias"]) for i in range(count))
            _check(layers)
        except (PlanError, ValueError) as error:
            raise PlanError(f"{what}: {error}") from error
        except Exception as error:  # whatever a damaged file makes of the library
            raise PlanError(f"{what}: {WEIGHTS} is damaged ({error}). Train it again.") from error
        known = ("format", "activation", "layers")
        return cls(layers, card["activation"], {k: v for k, v in card.items() if k not in known})


def _layers(card: Any) -> int:
    """How many layers a card says that there are.

    Raises:
        ValueError: it is no card.
    """
    if not isinstance(card, dict):
        raise ValueError(f"{CARD} holds no fields.")
    if card.get("format") != FORMAT or card.get("activation") not in [*ACTIVATIONS]:
        raise ValueError("it was written by another version.")
    count = card.get("layers")
    if type(count) is not int or not 1 <= count <= MAX_LAYERS:
        raise ValueError(f"it should have 1 to {MAX_LAYERS} layers, not {count!r:.40}.")
    return count


def _check_header(content: bytes, count: int) -> None:
    """Refuse a safetensors file that says of itself anything but the weights and biases of so many layers.

    The format: the length of the header (8 bytes), the header in JSON, the numbers.

    Raises:
        PlanError: the header cannot be read.
        ValueError: it says anything else.
    """
    if len(content) < 8:
        raise ValueError(f"{WEIGHTS} is empty or cut off.")
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(MAX_CARD_BYTES, len(content) - 8):
        raise ValueError(f"{WEIGHTS} has a header of {length:,} bytes, more than there are.")
    header = parse_json(content[8 : 8 + length], f"The header of {WEIGHTS}", MAX_CARD_BYTES)
    about = (
        {name: tensor for name, tensor in header.items() if name != "__metadata__"} if isinstance(header, dict) else {}
    )
    if set(about) != {f"{i}.{part}" for i in range(count) for part in ("weight", "bias")}:
        raise ValueError(f"{WEIGHTS} does not hold the {count} layers of which {CARD} speaks.")
    sizes = [_size(name, tensor) for name, tensor in about.items()]
    if sum(sizes) != len(content) - 8 - length:
        raise ValueError(f"{WEIGHTS} is not as long as its header says.")


def _size(name: str, tensor: Any) -> int:
    """Bytes of a tensor, as the header says."""
    shape: Any = tensor.get("shape") if isinstance(tensor, dict) else None
    whole = isinstance(shape, list) and all(type(n) is int and 1 <= n <= MAX_WIDTH for n in shape)
    if not whole or len(shape) != (2 if name.endswith("weight") else 1) or tensor.get("dtype") != "F32":
        raise ValueError(f"{name} in {WEIGHTS} is no layer of 1 to {MAX_WIDTH} neurons in float32.")
    return 4 * int(math.prod(shape))


def _check(layers: Sequence[tuple[Array, Array]]) -> None:
    """Refuse layers that do not fit together or hold anything but finite numbers of a sensible size.

    Raises:
        ValueError: which, and why.
    """
    for i, (weight, bias) in enumerate(layers):
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or (i and weight.shape[1] != len(layers[i - 1][1])):
            raise ValueError(f"layer {i} does not fit.")
        for numbers in (weight, bias):
            if not np.isfinite(numbers).all():
                raise ValueError(f"layer {i} holds numbers that are not finite.")
            if np.abs(numbers).max() > MAX_WEIGHT:
                raise ValueError(f"layer {i} holds weights beyond {MAX_WEIGHT:g}, which no training gives.")
