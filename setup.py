"""Packaging of nionswift-autoexp; the tools' settings are in pyproject.toml."""

import pathlib

from setuptools import find_namespace_packages, setup

here = pathlib.Path(__file__).parent

setup(
    name="nionswift-autoexp",
    version="0.1.0",
    description="Autonomous experiments, steered by a person, inside Nion Swift.",
    long_description=(here / "README.md").read_text(encoding="utf-8") if (here / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="GPL-3.0-or-later",
    python_requires=">=3.11",
    # The namespace parent is listed too: without it an editable install hides the plug-ins from Swift,
    # which looks them up with pkgutil.iter_modules. It never gets an __init__.py of its own.
    packages=[
        "nionswift_plugin",
        *find_namespace_packages(include=["autoexp", "autoexp.*", "nionswift_plugin.*"]),
        *find_namespace_packages("simulators"),
    ],
    package_dir={"virtual_stem": "simulators/virtual_stem"},
    package_data={
        "autoexp": ["py.typed", "report/*.css"],
        "virtual_stem": ["py.typed"],
        "nionswift_plugin.autoexp_ui": ["manifest.json", "resources/*", "py.typed"],
        "nionswift_plugin.virtual_stem": ["manifest.json", "py.typed"],
    },
    install_requires=[
        "nionswift>=16.16",
        "nionswift-instrumentation>=23.6",
        "nionutils>=4.14",
        "numpy>=2.0",
        "scipy>=1.13",
        "pydantic>=2.10",
        "typer>=0.15",
        "rich>=13",
        "filelock>=3.16",
        "threadpoolctl>=3.5",
        "platformdirs>=4.3",
        "matplotlib>=3.10",
    ],
    extras_require={
        "dkl": ["torch>=2.8", "gpytorch>=1.14"],
        # gymnasium: the way environments are given; Stable-Baselines3 and its contributions: the agents of the paper
        "rl": ["gymnasium>=1.2", "stable-baselines3>=2.7", "sb3-contrib>=2.7", "safetensors>=0.5", "torch>=2.8"],
        # Ray: sweeps of trainings on the nodes of a cluster, begun again where one is lost
        "cluster": ["ray>=2.40"],
        "export": ["hyperspy>=2.3", "exspy>=0.3", "h5py>=3.12"],
        "test": [
            "nionswift-usim>=5.4",
            "nionswift-tool>=5.1",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.120",
            "import-linter>=2.1",
            "ruff>=0.9",
            "mypy>=1.14",
        ],
        "docs": ["sphinx>=8", "furo>=2025.9"],
    },
    entry_points={"console_scripts": ["autoexp=autoexp.cli:app"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering",
    ],
)
