"""Translated texts. Without a catalogue, gettext looks for one on the disk at every call; here it looks once a text."""

from __future__ import annotations

import functools
import gettext

translate = functools.cache(gettext.gettext)
