"""A run whose checkpoint is small: both objectives, one narrow stack, eight clips a step."""

from alp_jax.config import RunConfig, parse_arguments, parse_count, to_config_dict
from alp_jax.config.schema import (
    DataConfig,
    DecoderConfig,
    EvalConfig,
    MeshConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    TextTowerConfig,
    TrainConfig,
    ZipformerConfig,
)


def get_config(arg: str | None = None):
    values = parse_arguments(arg, {"objective": "hybrid", "pairs": "all", "init": "scratch"})
    encoder = ZipformerConfig(
        num_encoder_layers=(1,),
        downsampling_factor=(2,),
        encoder_dim=(8,),
        feedforward_dim=(12,),
        num_heads=(2,),
        query_head_dim=(4,),
        value_head_dim=(4,),
        pos_dim=8,
        encoder_unmasked_dim=(8,),
        cnn_module_kernel=(5,),
        frontend_channels=(2, 2, 4),
    )
    text = TextTowerConfig(
        vocab_size=288, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    decoder = DecoderConfig(vocab_size=288, d_model=8, num_decoder_layers=1, decoder_nhead=2, dim_feedforward=8)
    config = RunConfig(
        init=values["init"],
        data=DataConfig(
            path="data",
            pairs=parse_count(values["pairs"]),
            bucket_seconds=(0.4,),
            clips_per_batch=8,
            text_budget=10,
            batch_seconds=20.0,
        ),
        model=ModelConfig(
            name="tiny", encoder=encoder, text=text, decoder=decoder, shared_emb_dim=8, regularise=False
        ),
        objective=ObjectiveConfig(name=values["objective"]),
        optim=OptimConfig(lr=3e-3, warmup_steps=2),
        mesh=MeshConfig(data=1),
        train=TrainConfig(steps=4, log_every=1, save_every=4, keep=1, average="running", average_period=2),
        evaluation=EvalConfig(
            suite="pitch,text_to_audio,audio_to_text", batch_seconds=4.0, max_seconds=0.4, alignment_clips=30,
            attention_steps=12, attention_frames=8, lit_steps=0,
        ),
    )  # fmt: skip
    return to_config_dict(config)
