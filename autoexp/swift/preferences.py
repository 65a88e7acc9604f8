"""Preferences of the plug-in, in a JSON file of their own in the user's configuration folder."""

from __future__ import annotations

import logging
import pathlib

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autoexp.documents import read_json
from autoexp.errors import PlanError
from autoexp.export.atomic import replace_file

log = logging.getLogger(__name__)

VIRTUAL_STEM_VARIABLE = "AUTOEXP_VIRTUAL_STEM"


class Preferences(BaseModel):
    """What a user or a facility sets once.

    Attributes:
        virtual_stem: specimen of the virtual microscope that Swift starts with; empty for none.
        runs_folder: where runs are kept; empty for the user's documents.
        site_folder: where the site's limits lie; empty for the machine-wide configuration folder.
    """

    model_config = ConfigDict(extra="ignore")

    virtual_stem: str = ""
    runs_folder: str = ""
    site_folder: str = ""
    arm_hardware: bool = Field(False, description="allow runs on an instrument that is not simulated")

    @property
    def runs(self) -> pathlib.Path:
        """Folder in which every run has its own."""
        if self.runs_folder:
            return pathlib.Path(self.runs_folder).expanduser()
        return pathlib.Path(platformdirs.user_documents_path()) / "Autonomous experiments"

    @property
    def site(self) -> pathlib.Path:
        """Folder of the site's limits, one file per instrument."""
        if self.site_folder:
            return pathlib.Path(self.site_folder).expanduser()
        return pathlib.Path(platformdirs.site_config_path("autoexp", appauthor=False)) / "limits"


def path() -> pathlib.Path:
    """Where the preferences lie."""
    return pathlib.Path(platformdirs.user_config_path("autoexp", appauthor=False)) / "preferences.json"


def load() -> Preferences:
    """The preferences; the defaults where there is no usable file, which is logged if there is one."""
    try:
        return Preferences.model_validate(read_json(path(), "The file of preferences"), strict=True)
    except (PlanError, ValidationError) as error:
        if path().exists():
            log.warning("The preferences cannot be used, so the defaults hold: %s", error)
        return Preferences()


def save(preferences: Preferences) -> None:
    """Write the preferences."""
    path().parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path()) as temporary:
        temporary.write_text(preferences.model_dump_json(indent=2), encoding="utf-8")
