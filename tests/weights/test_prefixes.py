"""What stands in front of a ViT's names is cut off."""

import pytest
from small_vits import assert_same

from vit_dense.weights import load_vit_weights


@pytest.fixture
def source(build):
    return build(seed=1).state_dict()


def test_compiled_and_distributed(build, source):
    model = build()
    load_vit_weights(model, {f'_orig_mod.module.{name}': t for name, t in source.items()})
    assert_same(model, source)


@pytest.mark.parametrize(
    ('other', 'taken'),
    [('model_ema.', 'model_ema.'), ('teacher.vit.', 'teacher.vit.'), ('semantic.', 'vit.')],
)
def test_of_two_vits_the_average_is_taken(build, source, other, taken):
    file = {f'{prefix}{name}': t for prefix in ('vit.', other) for name, t in source.items()}
    assert load_vit_weights(build(), file).prefix == taken
