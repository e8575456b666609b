"""The build backend: setuptools, with URLs for the README's pictures and pages, so that a package index shows them.

The README refers to its pictures and pages by paths within the repository. An index shows the README alone, so for it
each path
is prefixed with the URL of the repository.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_FILE = re.compile(r'(?P<before>!?\[[^\]]*\]\(|(?:src|srcset)=")(?P<path>\.(?:pictures|pages)/)')


def readme_for_an_index(readme: str, repository: str) -> str:
    """The README with the address of the repository before the path of each picture and page."""
    return _FILE.sub(rf"\g<before>{repository}/raw/main/\g<path>", readme)


def _write_readme() -> None:
    """Write what pyproject.toml names as the readme; hooks run in the folder of pyproject.toml."""
    about = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    readme = readme_for_an_index(Path("README.md").read_text(encoding="utf-8"), about["project"]["urls"]["Source"])
    written = Path(about["tool"]["setuptools"]["dynamic"]["readme"]["file"])
    written.parent.mkdir(exist_ok=True)
    written.write_text(readme, encoding="utf-8")


def build_wheel(*arguments: Any, **options: Any) -> str:
    """See PEP 517; so too the others."""
    _write_readme()
    return build_meta.build_wheel(*arguments, **options)


def build_sdist(*arguments: Any, **options: Any) -> str:
    _write_readme()
    return build_meta.build_sdist(*arguments, **options)


def build_editable(*arguments: Any, **options: Any) -> str:
    _write_readme()
    return build_meta.build_editable(*arguments, **options)


def prepare_metadata_for_build_wheel(*arguments: Any, **options: Any) -> str:
    _write_readme()
    return build_meta.prepare_metadata_for_build_wheel(*arguments, **options)


def prepare_metadata_for_build_editable(*arguments: Any, **options: Any) -> str:
    _write_readme()
    return build_meta.prepare_metadata_for_build_editable(*arguments, **options)
