"""Training from captured programs: for every model the bits of eager training, whatever the batches' masks."""

import pytest
from small_models import CASES, TEXT

from tinygrad_attn.program import Program

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def check_same_bits(make_trainer, **settings):
    weights = []
    for capture in (True, False):
        trainer = make_trainer(f"captured {capture}", training__capture=capture, training__epochs=3, **settings)
        assert trainer.train()
        weights.append([parameter.array.tobytes() for parameter in trainer.model.parameters()])
        programs = list(trainer.gradients.captured.programs.values())
        assert not capture or (
            trainer.gradients.captured.runs > 4 and any(isinstance(each, Program) for each in programs)
        )
        assert not [why for why in programs if isinstance(why, str)]
    assert weights[0] == weights[1]
    return trainer


@pytest.mark.parametrize("model", CASES.values(), ids=CASES)
def test_captured_training_has_the_bits_of_eager_training(model, make_trainer):
    trainer = check_same_bits(make_trainer, **{f"model__{key}": value for key, value in model.items()})
    assert not all(batch.source_mask.all() for batch in trainer.train_batches.epoch(0))


@pytest.mark.parametrize("newer", [{}, {"norm": "rms", "activation": "swiglu", "positions": "rotary", "kv_heads": 1}])
def test_of_a_language_model_too(newer, make_trainer):
    settings = TEXT | {f"model.{key}": value for key, value in newer.items()}
    check_same_bits(make_trainer, **{key.replace(".", "__"): value for key, value in settings.items()})
