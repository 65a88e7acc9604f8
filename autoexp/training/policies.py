"""A learned policy by itself: a small network in plain arrays, kept as safetensors with a card that says what it is.

It needs neither torch nor the library that trained it, and nothing that is read from its files is ever run.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autoexp.errors import MissingDependencyError, PlanError

Array = npt.NDArray[np.float32]

WEIGHTS, CARD = "policy.safetensors", "card.json"
FORMAT = 1
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}


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
        """The action (..., 2), each part -1 to 1, that it takes without exploring."""
        x = np.asarray(observation, dtype=np.float32)
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = ACTIVATIONS[self.activation](x)
        return np.asarray(np.tanh(x), dtype=np.float32)

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
            from safetensors.numpy import load_file
        except ImportError as error:
            raise MissingDependencyError(
                "A learned policy is kept as safetensors, which is not installed. Install it with: "
                "pip install 'nionswift-autoexp[rl]'"
            ) from error
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            tensors = load_file(str(folder / WEIGHTS))
            if card["format"] != FORMAT or card["activation"] not in ACTIVATIONS:
                raise ValueError("it was written by another version")
            layers = tuple((tensors[f"{i}.weight"], tensors[f"{i}.bias"]) for i in range(card["layers"]))
            _check(layers)
        except OSError as error:
            raise PlanError(f"There is no policy in {folder}: {error}.") from error
        except Exception as error:  # whatever a damaged file makes of the reader
            raise PlanError(f"The policy in {folder} cannot be read: {error}.") from error
        known = ("format", "activation", "layers")
        return cls(layers, card["activation"], {k: v for k, v in card.items() if k not in known})


def _check(layers: Sequence[tuple[Array, Array]]) -> None:
    """Refuse layers that do not fit together or hold anything but finite numbers."""
    if not layers:
        raise ValueError("it has no layers")
    for i, (weight, bias) in enumerate(layers):
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or (i and weight.shape[1] != len(layers[i - 1][1])):
            raise ValueError(f"layer {i} does not fit")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(f"layer {i} holds numbers that are not finite")
