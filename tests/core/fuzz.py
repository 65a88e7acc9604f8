"""Damage done to files and documents, the same for the same number."""

from __future__ import annotations

import copy
import json
import os
import random

CASES = int(os.environ.get("AUTOEXP_FUZZ", "200"))
"""How many damaged files a test makes of each kind."""

ODD = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e-300, 1e300, -1e308, 2**31, 2**63, -(2**63), 10**40),
    *("", "0.5", "1", "x" * 300, "\x00", "\x1b[2J", "\u202e", "nan", "-Infinity", "../../x", "/dev/zero"),
    *([], {}, [[]], [1, 2], {"kind": "grid"}, [None], [True]),
)
WORDS = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b'"\\udcff"',
    b"[" * 500,
    b"1" * 6000,
    b'{"a":1,"a":2}',
    b"\xff",
    b"\xef\xbb\xbf",
    b"",
)


def damaged_document(document, number):
    """A document with some values replaced, moved, doubled or left out; now and then its text is damaged too."""
    rng = random.Random(number)
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 2, 5))):
        places = list(_places(document))
        holder, key = rng.choice(places) if places else (None, None)
        if holder is None:
            break
        action = rng.random()
        if action < 0.7:
            holder[key] = copy.deepcopy(rng.choice(ODD))
        elif action < 0.8:
            holder[key] = copy.deepcopy(rng.choice(places)[0])
        elif isinstance(holder, dict) and action < 0.9:
            holder[str(rng.choice(ODD))[:40]] = holder[key]
        else:
            del holder[key]
    text = json.dumps(document).encode()
    return damaged_bytes(text, number) if rng.random() < 0.3 else text


def damaged_bytes(content, number, reach=4096):
    """Bytes flipped, overwritten, cut off or put in; one half of them near the beginning."""
    rng = random.Random(number)
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(min(len(found), reach) if rng.random() < 0.5 else len(found)) if found else 0
        action = rng.random()
        if action < 0.5 and found:
            found[at] ^= 1 << rng.randrange(8)
        elif action < 0.75:
            large = (
                b"\xff" * 8,
                bytes(8),
                (2**31).to_bytes(8, "little"),
                (2**62).to_bytes(8, "little"),
                b"\x7f\xff\xff\xff",
            )
            found[at : at + 8] = rng.choice(large)
        elif action < 0.9:
            found[at:at] = rng.choice(WORDS)
        else:
            del found[at:]
    return bytes(found)


def _places(value):
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
