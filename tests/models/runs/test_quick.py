"""The quick settings: what they win over, what wins over them, and the warm-up."""

import pytest
from tinygrad_attn_models.runs.config import find_config, load_config
from tinygrad_attn_models.runs.quick import QUICK, load_quick_config
from tinygrad_attn_models.training.optimizer import make_schedule


def test_the_file_gives_way_and_the_command_line_does_not(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 7\nbatch_size = 5\n", encoding="utf-8")
    config = load_quick_config(path, ["data.valid_size=9"])
    assert (config.training.epochs, config.training.batch_size) == (QUICK["training.epochs"], 5)
    assert (config.data.train_size, config.data.valid_size) == (QUICK["data.train_size"], 9)


def files(folder, pairs):
    """Parallel text, and the settings that name it."""
    for split, count in (("train", pairs), ("valid", 2), ("test", 2)):
        for language in "ab":
            (folder / f"{split}.{language}").write_text("".join(f"{i}\n" for i in range(count)), encoding="utf-8")
    return ["data.kind=parallel", f"data.directory={folder}", "data.source=a", "data.target=b"]


@pytest.mark.parametrize(
    ("settings", "warmup"),
    [
        (["training.warmup=0"], 0),
        (
            ["training.epochs=6", "data.train_size=10000", "training.warmup=100"],
            10,
        ),  # half the epochs, a fifth of the pairs
        (["training.schedule=noam", "training.warmup=4000"], 4000),
        (["training.schedule=inverse_sqrt", "training.warmup=4000"], 400),
        (["training.warmup=3"], 1),
    ],
)
def test_the_warmup_shrinks_with_the_number_of_steps(tmp_path, settings, warmup):
    path = tmp_path / "mine.toml"
    path.write_text(load_config(None, settings).to_toml(), encoding="utf-8")
    assert load_quick_config(path, []).training.warmup == warmup


def test_a_warmup_that_is_asked_for_stays():
    assert load_quick_config(None, ["training.warmup=50"]).training.warmup == 50


@pytest.mark.parametrize(
    ("settings", "warmup"),
    [
        ([], 4),  # 3 of 16 epochs, a quarter of the windows
        (["training.batch_type=tokens", "training.batch_size=4096"], 4),
        (["training.schedule=noam", "training.warmup=4000"], 4000),
        (["training.warmup=0"], 0),
        (["training.warmup=3"], 1),
    ],
)
def test_the_warmup_of_a_text_shrinks_alike(tmp_path, settings, warmup):
    path = tmp_path / "mine.toml"
    path.write_text(load_config(find_config("gpt"), settings).to_toml(), encoding="utf-8")
    config = load_quick_config(path, [])
    assert (config.training.warmup, config.training.epochs, config.data.epoch_windows) == (warmup, 3, 600)


def test_windows_that_cover_a_text_are_counted(tmp_path):
    (tmp_path / "text").write_text("abcdefghi\n" * 16_000, encoding="utf-8")  # 2,250 windows of 64 for training
    settings = ["data.kind=text", f"data.file={tmp_path / 'text'}", "model.name=gpt", "training.warmup=100"]
    (tmp_path / "mine.toml").write_text(load_config(None, settings).to_toml(), encoding="utf-8")
    assert load_quick_config(tmp_path / "mine.toml", []).training.warmup == 100 * 3 * 600 // (6 * 2250)


def test_every_config_with_a_warmup_has_steps_left_after_it():
    config = load_quick_config(find_config("copy-transformer"), [])
    steps = config.training.epochs * -(-config.data.train_size // config.training.batch_size)
    assert 0 < config.training.warmup < steps
    make_schedule(config, steps)


@pytest.mark.parametrize(("pairs", "read", "warmup"), [(40, 40, 50), (8000, 2000, 12)])
def test_files_are_read_in_part(tmp_path, pairs, read, warmup):
    (tmp_path / "mine.toml").write_text(
        load_config(None, [*files(tmp_path, pairs), "training.warmup=100"]).to_toml(), encoding="utf-8"
    )
    config = load_quick_config(tmp_path / "mine.toml", [])
    train = config.data.load().train
    assert config.training.warmup == warmup and len(train) == read
    assert train[0][0] == "0" and int(train[-1][0]) >= pairs - pairs // read  # from the whole file
