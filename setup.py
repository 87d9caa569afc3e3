"""Finds the packages of dcbench; everything else about it is in pyproject.toml.

A list of packages in TOML is either found or written out. Here the harness is found and
two packages are added whose folders lie at the top of the repository.
"""

from setuptools import find_packages, setup

PLUGINS = {"dcbench_bacon.methods": "methods", "dcbench_bacon.datasets": "datasets"}

setup(
    packages=[*find_packages(include=["dcbench_bacon", "dcbench_bacon.*"]), *PLUGINS],
    package_dir=PLUGINS,
)
