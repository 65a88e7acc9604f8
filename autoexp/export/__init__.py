"""Finished runs for other programs. Every file is written in one step and read back before it takes its place."""

from autoexp.export.hspy import export_hspy
from autoexp.export.spectra import damage_of
from autoexp.export.tables import export_csv

__all__ = ["damage_of", "export_csv", "export_hspy"]
