"""Makes the pictures of the documentation anew, from the real window: ``python docs/pictures/make.py [NAME...]``.

Needs what the window tests need (Xvfb, openbox, xdotool, ImageMagick; see ``autoexp doctor``), and Chromium for the
picture of the report. Whatever is missing is said, and its pictures stay as they are.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from PIL import Image

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "window"), str(HERE)]

import draw  # noqa: E402
import figures  # noqa: E402
import virtual_display  # noqa: E402

WIDTH = 1320  # of pictures that show the whole window
PAGE_WIDTH = 860  # of pictures of a page
LARGEST = 400_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(wanted: list[str]) -> int:
    """Make all pictures, or those that are named; says which are new."""
    made = list(drawings())
    if wanted and {name for name, _ in made} >= set(wanted):
        return keep(made, wanted)
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        runs = place / "home" / "Documents" / "Autonomous experiments"
        choose_folder(place / "home")
        run = a_run(runs)
        made += report(run, place / "report.png")
        cut_off(run)
        made += screenshots(place)
    return keep(made, wanted)


def keep(made: list[tuple[str, Image.Image | str]], wanted: list[str]) -> int:
    """Write those that are wanted."""
    for name, picture in made:
        if not wanted or name in wanted:
            save(name, picture)
    return 0


def a_run(runs: pathlib.Path) -> pathlib.Path:
    """The folder of a demonstration, its report included; what the terminal shows of it is kept."""
    program = pathlib.Path(sys.executable).parent / "autoexp"
    given = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    told = subprocess.run([program, "demo", "--runs", runs], check=True, env=given, capture_output=True, text=True)
    shown = (told.stderr.replace("\n\n", "\n") + told.stdout).replace(str(runs), "runs")
    (HERE / "demo.txt").write_text("\n".join(line.strip() for line in shown.splitlines()) + "\n", encoding="utf-8")
    return next(runs.glob("*/events.jsonl")).parent


def choose_folder(home: pathlib.Path) -> None:
    """A folder of the runs that does not tell where this was made."""
    preferences = home / ".config" / "autoexp" / "preferences.json"
    preferences.parent.mkdir(parents=True)
    preferences.write_text(json.dumps({"runs_folder": "~/Documents/Autonomous experiments"}), encoding="utf-8")


def cut_off(run: pathlib.Path, points: int = 23) -> None:
    """Leave of a run what a power cut in the middle of an exposure would leave."""
    journal = run / "events.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    measured = [number for number, line in enumerate(lines) if b'"type":"measured"' in line]
    journal.write_bytes(b"".join(lines[: measured[points - 1] + 3]))


def report(run: pathlib.Path, path: pathlib.Path) -> Iterator[tuple[str, Image.Image]]:
    """The top of a report, in a browser that nobody sees."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print(f"report.png stays as it is: there is none of {', '.join(BROWSERS)}")
        return
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1060,1420"]
    command = [browser, *options, f"--screenshot={path}", (run / "report.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    yield "report", narrowed(Image.open(path), PAGE_WIDTH)


def screenshots(place: pathlib.Path) -> Iterator[tuple[str, Image.Image]]:
    """What ``in_swift.py`` photographs, cut to the parts that are wanted."""
    reason = virtual_display.missing()
    if reason:
        print(f"the pictures of the window stay as they are: {reason}")
        return
    out = place / "out"
    with virtual_display.display() as name:
        virtual_display.run_swift(name, HERE / "in_swift.py", out, home=place / "home", seconds=240)
    result = json.loads((out / "result.json").read_text())
    if not result["ok"]:
        raise SystemExit(result["error"])
    for name, part in result["result"].items():
        left, top, width, height = part
        picture = Image.open(out / f"{name}.png").crop((left, top, left + width, top + height))
        yield name, narrowed(picture, WIDTH)


def narrowed(picture: Image.Image, width: int) -> Image.Image:
    """A picture no wider than that."""
    if picture.width <= width:
        return picture
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def drawings() -> Iterator[tuple[str, str]]:
    """The drawings that are computed."""
    yield "phases", draw.phases()
    yield "way", draw.way()
    yield "alignment", figures.alignment()


def save(name: str, picture: Image.Image | str) -> None:
    """Write a picture, small enough to be kept with the source."""
    if isinstance(picture, str):
        path = HERE / f"{name}.svg"
        path.write_text(picture, encoding="utf-8")
    else:
        path = HERE / f"{name}.png"
        while True:
            few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)
            few.save(path, optimize=True)
            if path.stat().st_size <= LARGEST:
                break
            picture = narrowed(picture, round(0.94 * picture.width))
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
