"""evaluating: whatever happens inside, each module has its own mode again."""

import pytest

from tinygrad_attn import nn
from tinygrad_attn.nn.evaluating import evaluating


def test_each_module_has_its_mode_again():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]
