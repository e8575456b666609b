"""What is installed, and what the README says of the tree."""

import re
import tomllib
from pathlib import Path

from house_map import ROOT, draw_map, map_in_readme

ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_map_in_the_readme_is_the_tree() -> None:
    assert map_in_readme(README) == draw_map(), "python tests/helpers/house_map.py draws the map anew"


def test_every_package_is_installed() -> None:
    folders = [
        path.parent.relative_to(ROOT) for top in ("tinygrad_attn", "models") for path in (ROOT / top).rglob("*.py")
    ]
    names = {".".join(folder.parts) for folder in folders}
    installed = {re.sub(r"^models\b", "tinygrad_attn_models", name) for name in names}
    assert set(ABOUT["tool"]["setuptools"]["packages"]) == installed


def test_every_package_has_its_remark() -> None:
    folders = {path.parent for top in ("tinygrad_attn", "models") for path in (ROOT / top).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_the_name_models_stays_the_users_own() -> None:
    assert {name.split(".")[0] for name in ABOUT["tool"]["setuptools"]["packages"]} == {
        "tinygrad_attn",
        "tinygrad_attn_models",
    }


def test_the_pictures_of_the_readme_are_there_and_an_index_finds_them() -> None:
    namespace: dict[str, object] = {"__name__": "backend"}
    exec((ROOT / ".build" / "backend.py").read_text(encoding="utf-8"), namespace)
    pictures = set(re.findall(r"\.pictures/[\w./-]+", README))
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
    shown = namespace["readme_for_an_index"](README, "https://example.org/repository")  # type: ignore[operator]
    assert set(re.findall(r"(?<!raw/main/)\.pictures/[\w./-]+", shown)) == set()
    assert len(re.findall(r"https://example\.org/repository/raw/main/\.pictures/", shown)) == len(
        re.findall(r"\.pictures/", README)
    )


def test_nothing_else_stands_at_the_top() -> None:
    import subprocess

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    top = {Path(name).parts[0] for name in tracked}
    assert {name for name in top if not name.startswith(".")} <= {
        "pyproject.toml", "tinygrad_attn", "models", "tests", "README.md"
    }  # fmt: skip
