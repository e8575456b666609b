"""JSON that somebody has damaged is one kind of error."""

import pytest
from tinygrad_attn_models.runs.jsons import parse_json, read_json


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 100_000, b"\x00", b""])
def test_every_mistake_is_a_value_error(tmp_path, text):
    with pytest.raises(ValueError):
        parse_json(text)
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(ValueError):
        read_json(path)


def test_what_is_right_is_read(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"a": ["가"]}', encoding="utf-8")
    assert read_json(path) == {"a": ["가"]}
