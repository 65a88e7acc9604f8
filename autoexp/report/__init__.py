"""Reports: what a run asked, where it measured, what it found and how well its model knew.

>>> from autoexp.report import write_report
>>> write_report("runs/20261120-103443-plasmonic")
"""

from autoexp.report.page import write_report

__all__ = ["write_report"]
