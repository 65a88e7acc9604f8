"""A virtual STEM-EELS microscope: physics in plain numpy, seeded, with a ground truth to score against.

Only :mod:`virtual_stem.devices` knows of Nion Swift; everything else runs without it.
"""
