"""Settings of the model: the encoder with its text side."""

import dataclasses

from alp_jax.config.domain import setting
from alp_jax.config.outside import Settings
from alp_jax.config.schema.encoders import ConformerConfig, ViTConfig, ZipformerConfig

ENCODER_KINDS = ("zipformer", "vit", "conformer")  # ours: the SPEC of alp_jax.models.KIND
ENCODERS = "alp_jax.encoders"  # entry points of encoders that other distributions bring
# What a model may have beside its encoder; objectives say which of them they need.
SIDES = TEXT, DECODER, TAGGER = "text", "decoder", "tagger"

_FORM = "how the same numbers are computed, see models/forms.py; auto takes what is fastest on the device"


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """BERT-shaped text tower; the defaults are BERT-base without pooler. Names follow transformers' BertConfig."""

    vocab_size: int = setting(50000, "rows of the token table, no fewer than the tokenizer has", unit="tokens", low=1)
    hidden_size: int = setting(768, "width of the tower", unit="channels", low=1)
    num_hidden_layers: int = setting(12, "transformer layers", unit="layers", low=1)
    num_attention_heads: int = setting(12, "attention heads, a divisor of the width", unit="heads", low=1)
    intermediate_size: int = setting(3072, "width inside a feed-forward module", unit="channels", low=1)
    max_position_embeddings: int = setting(512, "longest text, its two special tokens included", unit="tokens", low=3)
    type_vocab_size: int = setting(2, "table of token types, of which the first is used", unit="rows", low=1)
    layer_norm_eps: float = setting(1e-12, "added to the variance in layer norms", above=0, below=1)
    hidden_dropout_prob: float = setting(0.1, "dropout rate of embeddings and modules", low=0, below=1)
    attention_probs_dropout_prob: float = setting(0.1, "dropout rate of attention weights", low=0, below=1)


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """BART-shaped caption decoder; the defaults are the six layers of BART-base. Names follow the reference."""

    vocab_size: int = setting(50000, "rows of the token table, no fewer than the tokenizer has", unit="tokens", low=1)
    d_model: int = setting(768, "width of the decoder", unit="channels", low=1)
    num_decoder_layers: int = setting(6, "decoder layers", unit="layers", low=1)
    decoder_nhead: int = setting(8, "attention heads, a divisor of the width", unit="heads", low=1)
    dim_feedforward: int = setting(3072, "width inside a feed-forward module", unit="channels", low=1)
    decoder_dropout: float = setting(0.1, "dropout rate of the decoder", low=0, below=1)
    decoder_activation: str = setting("gelu", "activation inside a feed-forward module", choices=("gelu", "relu"))
    decoder_norm_first: bool = setting(False, "whether layer norms come before the modules instead of after them")
    decoder_bias: bool = setting(False, "whether linear layers and norms have biases")
    decoder_shared_emb: bool = setting(False, "whether the output layer shares the token table")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The audio encoder with its text side; ``text`` is used by contrastive, ``decoder`` by captioning objectives."""

    name: str = setting(
        "zipformer_m", "what reports call the model; its sizes come from the argument model=NAME of a config file"
    )
    encoder_kind: str = setting(
        "zipformer",
        "which encoder: the settings of a zipformer are in config.model.encoder; those of the others are not used",
        choices=ENCODER_KINDS,
        group=ENCODERS,
    )
    encoder: ZipformerConfig = dataclasses.field(default=ZipformerConfig())
    vit: ViTConfig = dataclasses.field(default=ViTConfig())
    conformer: ConformerConfig = dataclasses.field(default=ConformerConfig())
    encoder_settings: Settings = dataclasses.field(default=Settings())  # of an encoder without a section of its own
    text: TextTowerConfig = dataclasses.field(default=TextTowerConfig())
    decoder: DecoderConfig = dataclasses.field(default=DecoderConfig())
    shared_emb_dim: int = setting(
        1024, "width of the space in which audio and text are compared", unit="channels", low=1
    )
    num_tags: int = setting(
        527,
        "outputs of the tagging objective, no fewer than the list in config.data.tags has; AudioSet has 527",
        unit="tags",
        low=1,
    )
    compute_dtype: str = setting(
        "float32",
        "type of the numbers in matrix products; parameters, norms, softmax and losses stay float32",
        choices=("float32", "bfloat16"),
    )
    depthwise_form: str = setting("auto", f"depthwise convolutions: {_FORM}", choices=("auto", "shift", "lax"))
    frontend_form: str = setting("auto", f"front-end convolutions: {_FORM}", choices=("auto", "shift", "lax"))
    position_form: str = setting("auto", f"relative positions: {_FORM}", choices=("auto", "direct", "skew"))
    swoosh_form: str = setting("auto", f"Swoosh activations: {_FORM}", choices=("auto", "own", "autodiff"))
    regularise: bool = setting(
        True, "whether dropout, skips, Balancer, Whiten and the other training-only parts of the encoder are on"
    )
    remat: str = setting(
        "none",
        "what the backward pass recomputes, for less memory and a third more computation: the encoder's layers; the "
        "layers of the text tower and the decoder (text); both and the front end of a Zipformer (all)",
        choices=("none", "layers", "text", "all"),
    )
