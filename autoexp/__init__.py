"""Autonomous experiments for scanning transmission electron microscopes, steered by a person.

The core never imports Nion Swift (but for :mod:`autoexp.swift`) and opens no window. A run is an append-only list of
events (:mod:`autoexp.events`); an agent only decides (:mod:`autoexp.agent`); the guardian is the only way to an
instrument (:mod:`autoexp.guardian`); one engine drives it all (:mod:`autoexp.engine`).
"""

__version__ = "0.1.0"
