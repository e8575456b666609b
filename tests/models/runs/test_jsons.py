"""JSON that somebody has damaged is one kind of error."""

import pytest
from tinygrad_attn_models.runs.jsons import checked_json, parse_json, read_json


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 100_000, b"\x00", b""])
def test_every_mistake_is_a_value_error(tmp_path, text):
    with pytest.raises(ValueError):
        parse_json(text)
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(ValueError):
        read_json(path)


@pytest.mark.parametrize("text", ["null", "3", "[1]", '"text"'])
def test_a_file_holds_an_object(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must hold an object"):
        read_json(path)


def test_what_is_right_is_read(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"a": ["가"]}', encoding="utf-8")
    assert read_json(path) == {"a": ["가"]}


def test_other_values_than_were_written_are_noticed(tmp_path):
    path = tmp_path / "file.json"
    values = {"a": [1.5, "가"], "1": None}
    path.write_text(checked_json({"a": [1.5, "가"], 1: None}), encoding="utf-8")
    assert read_json(path) == values
    path.write_text(path.read_text(encoding="utf-8").replace("1.5", "1.4"), encoding="utf-8")
    with pytest.raises(ValueError, match="not those that were written"):
        read_json(path)
