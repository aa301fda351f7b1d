"""The presets: exact sizes, equal costs, and models that can be built."""

import jax
import pytest

from alp_jax.config import MODELS
from alp_jax.config.schema.model import TEXT
from alp_jax.config.sizes import MATCHES
from alp_jax.models.accounting import encoder_flops, encoder_parameters, parameters
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.encoders import output_dim
from alp_jax.models.functional import functionalize

ENCODERS = {  # name -> (parameters, GFLOP on 10 s, width)
    "zipformer_l": (152_675_514, 34.853, 768),  # the count of the reference's large preset
    "zipformer_m": (65_913_719, 19.868, 512),  # the count of the reference's default
    "zipformer_m_768": (66_484_247, 19.007, 768),
    "zipformer_m_causal": (66_475_639, 19.909, 512),
    "zipformer_s": (21_989_779, 12.079, 256),
    "zipformer_xs": (1_194_095, 0.951, 128),
    "zipformer_xxs": (108_199, 0.091, 48),
    "vit_b": (33_746_944, 20.408, 512),
    "vit_s": (19_018_752, 11.838, 384),
    "vit_xxs": (101_760, 0.094, 40),
    "conformer_b": (30_985_600, 19.916, 256),
    "conformer_s": (16_776_640, 11.839, 192),
    "conformer_xxs": (87_504, 0.092, 40),
}


def test_sizes_are_these():
    found = {
        name: (encoder_parameters(config), round(encoder_flops(config, 10.0) / 1e9, 3), output_dim(config))
        for name, config in MODELS.items()
    }
    assert found == ENCODERS
    assert all(config.name == name for name, config in MODELS.items())


@pytest.mark.parametrize("name", MODELS)
def test_presets_can_be_built_and_are_counted_exactly(name):
    """The whole model, abstractly; the encoder's count is that of its parameters."""
    init, _ = functionalize(lambda rngs: AudioTextModel(MODELS[name], (TEXT,), rngs=rngs))
    shapes = jax.eval_shape(init, jax.random.key(0))
    assert parameters(shapes["encoder"]) == ENCODERS[name][0]
    assert shapes["audio_proj"]["hidden"]["kernel"].shape[0] == ENCODERS[name][2]


@pytest.mark.parametrize(("name", "against"), MATCHES.items())
def test_encoders_of_equal_cost(name, against):
    assert abs(encoder_flops(MODELS[name], 10.0) / encoder_flops(MODELS[against], 10.0) - 1) < 0.05
    assert MODELS[name].text == MODELS[against].text
    assert MODELS[name].decoder == MODELS[against].decoder
    assert MODELS[name].regularise == MODELS[against].regularise
