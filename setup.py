"""List the packages; all other metadata is in pyproject.toml.

The presets lie in configs/ at the top of the tree, where people look for them, and are installed as
``lily.configs``, where lily.config.presets finds them. pyproject.toml can either search for
packages or name one that lies elsewhere, but not both.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lily", "lily.*"]), "lily.configs"],
    package_dir={"lily.configs": "configs"},
)
