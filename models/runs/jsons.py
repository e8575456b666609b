"""Reads JSON that somebody may have changed or damaged: every mistake in it is a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["parse_json", "read_json"]


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text describes.

    Raises:
        ValueError: it is not JSON, not UTF-8, or nested thousands deep.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}") from error
    except RecursionError as error:
        raise ValueError("its values are nested too deep") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file; see `parse_json`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON.
    """
    return parse_json(path.read_bytes())
