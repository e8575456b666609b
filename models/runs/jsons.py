"""JSON files with a checksum; reads those that somebody may have changed or damaged: every mistake is a ValueError."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["checked_json", "parse_json", "read_json"]

_CHECKSUM = "sha256"


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


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, without the checksum of `checked_json`, which a file need not have.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON (see `parse_json`) or no object, or its values are not those of its checksum.
    """
    values = parse_json(path.read_bytes())
    if not isinstance(values, dict):
        raise ValueError(f"it must hold an object in braces, it holds {json.dumps(values):.80}")
    if (written := values.pop(_CHECKSUM, None)) not in (None, _checksum(values)):
        raise ValueError(f"its values are not those that were written, by the checksum {written!r:.80} in it")
    return values


def checked_json(values: Mapping[str, Any]) -> str:
    """A JSON text of ``values``, for people to read, with a checksum of the values for `read_json`."""
    return json.dumps({**values, _CHECKSUM: _checksum(values)}, ensure_ascii=False, indent=2) + "\n"


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(json.loads(json.dumps(values))).encode()).hexdigest()
