"""Instruments to learn on, and learning."""
