"""The runs of "Revisiting Audio-language Pretraining for Learning General-purpose Audio Representation".

(Tseng et al., arXiv 2511.16757v2, ACL 2026; public code: the Auden toolbox, commit 2f78687.)

    alp train --workdir runs/contrastive --config=configs/paper.py:objective=contrastive,pairs=10m
    alp train --workdir runs/start --config=configs/paper.py:objective=captioning,pairs=1m,init=runs/audioset
    alp train --workdir runs/clap --config=configs/paper.py:source=code

Arguments, all optional:
  objective    contrastive | captioning
  pairs        400k | 1m | 4m | 10m, nested; all is the 10.7 M pairs of CaptionStew, which the paper calls 10M
  init         scratch, or the folder of "alp import" with the AudioSet classifier (mAP 0.46) whose encoder is the start
  source       paper: what the paper says. code: what the public recipes (examples/clap, examples/audio_caption) do
  model        which encoder: by_source (that of init if that folder is here, else as the source says), a name of
               "alp models", or the folder of a run or an import that has it
  devices      64 | 32: most devices that share a batch, see below
  precision    f32 | bf16: the type of matrix products; parameters, norms, softmax and losses are float32 in both
  text_budget  by_source, shared (both objectives keep 128 tokens) or reference (30 with special tokens, and 128)

Where paper and code differ, both are here; every other setting holds for both, and any can be changed by a flag:
  setting                      paper                                 code
  audio in a global batch      8 GPUs x 640 s, on any devices        8 GPUs x 600 s
  steps                        600k; 200k from a start               300k
  encoder's widest stack       768                                   512
  vocabulary                   50k subwords; from a start that of    BERT's 30,522 or BART's 50,265
                               the text checkpoint
  text tower's start           random; BERT from a start             BERT
  decoded in parallel          0.75 of the captions                  0
  temperature                  learnt from 0.07 (not stated)         0.07
  contrastive loss             mean (not stated)                     sum over clips and both directions
  penalty on embeddings        0 (not mentioned)                     1
  tokens of a caption          128 (not stated)                      28 and 2 special ones; captioning 128
With source=paper the batches of every bucket have exactly 5,120 s, and are the same on any number of devices that
divides the argument devices. This decides where buckets can end: at whole parts of 80 s for 64 devices, so that clips
of 30 s are in the bucket of 40 s; at whole parts of 160 s for 32, where they are in that of 32 s, with less padding.
The captions of a captioning batch are similar in length, so that little is padding; those of a contrastive batch
are of any length, as in the code, since retrieval was measured to be worse otherwise (docs/paper.md).
Part of that code has no counterpart here. It fills 30 buckets clip by clip, we have 8 shapes; it drops clips below 1 s
and above 60 s, we crop what is longer than 40 s; it draws data sets by hours, we shuffle all clips; it averages the
captioning loss per GPU, we average over all tokens. No decoder starts from BART: its layers have parts that this one
lacks.

Before: "alp tokenizer --data data/captionstew --vocab_size 50000" for source=paper from scratch; else
"alp import hf bert-base-uncased --out runs/bert", or BART's tokenizer.json in data/bart-base. A start whose encoder is
512 wide, as the public ones are, gives its own encoder to the run. The paper's 600k steps were 14 days on 8 V100.

Which rows of the paper's tables a run is (frozen encoder, last layer; pairs=all, source=paper):
  mean-pooled probes        FSD50K  VGGSound  VoxCeleb2  CREMA-D   MTAG  NSynth  AudioSet-Strong
                              mAP     acc %      acc %     acc %    mAP   acc %            PSDS1
  contrastive, scratch       0.625     50.87      46.67     67.71  0.406   67.30            0.132
  captioning, scratch        0.580     47.79      33.43     63.60  0.401   63.10            0.124
  contrastive, init          0.664     54.70      38.17     68.84  0.406   69.38            0.187
  captioning, init           0.652     53.13      26.23     65.86  0.410   67.16            0.145
  (the start by itself       0.656     56.46      18.84     67.14  0.407   67.19            0.216)
  attention-pooled probes
  contrastive, scratch       0.640     52.81      72.86     74.50  0.406   75.00
  captioning, scratch        0.619     50.97      56.64     70.40  0.406   72.10
  contrastive, init          0.670     54.89      72.24     73.09  0.412   76.70
  language                 ROUGE-L AC/PSC/MC   recall AC/PSC/MC   QA sound / gender, age, emotion / music
  contrastive, scratch       46.6/46.3/22.1      39.3/63.2/27.4   6.65 / 37.9, 81.3, 63.4 / 5.86
  captioning, scratch        46.7/46.5/22.9      36.9/60.2/23.0   6.69 / 44.2, 65.4, 69.0 / 5.97
  contrastive, init          47.2/46.2/22.5      42.8/60.6/29.4   6.73 / 35.1, 67.3, 64.5 / 5.63
  (the start by itself       46.7/45.5/22.9      40.5/49.2/24.6   7.01 / 36.5, 46.2, 37.2 / 5.61)
(AC AudioCaps, PSC ParaSpeechCaps, MC MusicCaps; QA AIR-Bench.) The rungs 400k, 1m and 4m are its scaling curves.
"""

import dataclasses

from alp_jax.config import MODELS, RunConfig, model_in, parse_arguments, parse_count, to_config_dict
from alp_jax.config.arguments import choose
from alp_jax.config.schema import (
    CHOSEN_WIDTHS,
    DataConfig,
    DecoderConfig,
    EvalConfig,
    FeatureConfig,
    MeshConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    SpecAugmentConfig,
    TextTowerConfig,
    TrainConfig,
)

OBJECTIVES, SOURCES = ("contrastive", "captioning"), ("paper", "code")
PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}
PAIRS = ("400k", "1m", "4m", "10m", "all")
BY_SOURCE, SCRATCH = "by_source", "scratch"
# Tokens before special ones. The code's tokenizers count BERT's two special tokens and not BART's.
TEXT_BUDGETS = {"shared": {"contrastive": 128, "captioning": 128}, "reference": {"contrastive": 28, "captioning": 128}}
# Lengths of which 5,120 s hold a multiple of so many clips.
BUCKETS = {64: (2.5, 4.0, 5.0, 8.0, 10.0, 16.0, 20.0, 40.0), 32: (2.5, 5.0, 8.0, 10.0, 16.0, 20.0, 32.0, 40.0)}
BERT, BART = "runs/bert", "data/bart-base"
DEFAULTS = {
    "objective": "contrastive",
    "pairs": "all",
    "init": SCRATCH,
    "source": "paper",
    "model": BY_SOURCE,
    "precision": "f32",
    "devices": "64",
    "text_budget": BY_SOURCE,
}


def get_config(arg: str | None = None):
    """The configuration for ``arg`` (``key=value,...``); an unknown key or value fails and names the nearest."""
    values = parse_arguments(arg, DEFAULTS)
    objective = choose(values["objective"], OBJECTIVES, "objective")
    source = choose(values["source"], SOURCES, "source")
    pairs = parse_count(choose(values["pairs"], PAIRS, "pairs"))
    devices = choose(values["devices"], map(str, BUCKETS), "devices")
    started = values["init"] != SCRATCH
    public_text = source == "code" or started  # vocabulary and weights of a public text checkpoint
    by_source = {
        "paper": {"model": "zipformer_m_768", "text_budget": "shared"},
        "code": {"model": "zipformer_m", "text_budget": "reference"},
    }[source]
    budget = by_source["text_budget"]
    if values["text_budget"] != BY_SOURCE:
        budget = choose(values["text_budget"], (BY_SOURCE, *TEXT_BUDGETS), "text_budget")
    asked, by_default = (values["init"], by_source["model"]) if values["model"] == BY_SOURCE else [values["model"]] * 2
    model = model_in(asked) or MODELS[choose(by_default, (BY_SOURCE, *MODELS), "model")]
    config = RunConfig(
        seed=0,
        init=values["init"],
        init_text=BERT if public_text and objective == "contrastive" else SCRATCH,
        data=_data(objective, source, pairs, public_text, TEXT_BUDGETS[budget][objective], int(devices)),
        features=_features(),
        model=_model(model, public_text, PRECISIONS[choose(values["precision"], PRECISIONS, "precision")]),
        objective=_objective(objective, source),
        optim=_optim(),
        mesh=MeshConfig(data=-1, fsdp=1, tensor=1, dcn_data=1, dcn_fsdp=1, dcn_tensor=1),  # both: data parallel
        train=_train(source, started),
        # paper: whole test sets
        evaluation=EvalConfig(max_train_clips=0, max_test_clips=0, retrieval_clips=0, alignment_clips=0),
    )
    return to_config_dict(config)


def _data(objective: str, source: str, pairs: int, public_text: bool, text_budget: int, devices: int) -> DataConfig:
    public = {"contrastive": f"{BERT}/tokenizer.json", "captioning": f"{BART}/tokenizer.json"}[objective]
    return DataConfig(
        path="data/captionstew",
        pairs=pairs,  # paper: nested subsets
        # paper: 50k subwords, here trained on the captions; code: train.yaml
        tokenizer=public if public_text else "",
        held_out=0.001,  # ours: recordings for the validation loss, about 9,000 clips
        sources="",  # paper: all of them
        mixture="",  # paper: not stated; code: sampled by hours
        bucket_seconds=BUCKETS[devices],  # ours; code: data_module.py keeps 1 to 60 s
        crop_seconds=40.0,  # without effect beside these buckets, as max_padding
        max_padding=0.1,
        batch_seconds={"paper": 8 * 640.0, "code": 8 * 600.0}[source],  # paper: training; code: data.sampler
        clips_per_batch=0,  # both: by seconds
        clips_multiple={"paper": devices, "code": 8}[source],  # paper: ours; code: 8 GPUs
        tags="",  # not used
        text_clean={"contrastive": "clap", "captioning": "audio_caption"}[objective],  # code: data_module.py
        # ours: chosen for the captions, but not where they are each other's negatives, as batches would then have
        # captions of like lengths, which costs retrieval (docs/paper.md)
        text_widths={"contrastive": (), "captioning": CHOSEN_WIDTHS}[objective],
        text_budget=text_budget,  # code: clap/model.py, audio_caption's train.yaml
        read="random",  # this and the following: the numbers are the same
        window_shards=8,
        shard_cache_gb=64.0,
        workers=8,
        prefetch_mb=8192,
    )


def _features() -> FeatureConfig:
    spec_augment = SpecAugmentConfig(  # code: enable_spec_aug, which is lhotse's with these values
        enabled=True,
        probability=0.9,
        time_warp=80,
        num_feature_masks=2,
        feature_mask_width=27,
        num_time_masks=10,
        time_mask_width=100,
        max_time_fraction=0.15,
    )
    # paper: front end, 80 bins; code: lhotse's Fbank, 20 Hz to 400 Hz below Nyquist
    return FeatureConfig(num_mel_bins=80, low_hz=20.0, high_hz=7600.0, spec_augment=spec_augment)


def _model(model: ModelConfig, public_text: bool, compute_dtype: str) -> ModelConfig:
    text = TextTowerConfig(  # paper: BERT-base shape; code: bert-base-uncased
        vocab_size=30522 if public_text else 50000,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=512,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    decoder = DecoderConfig(  # paper: BART-base decoder shape, 6 layers; code: audio_caption/model_config.py
        vocab_size=50265 if public_text else 50000,
        d_model=768,
        num_decoder_layers=6,
        decoder_nhead=8,
        dim_feedforward=3072,
        decoder_dropout=0.1,
        decoder_activation="gelu",
        decoder_norm_first=False,
        decoder_bias=False,
        decoder_shared_emb=False,
    )
    return dataclasses.replace(
        model,  # paper: Zipformer-M with 768 outputs; code: ZipformerConfig(), 512
        text=text,
        decoder=decoder,
        shared_emb_dim=1024,  # code: clap/model_config.py
        num_tags=527,  # not used
        compute_dtype=compute_dtype,  # code: use_fp16 False
        depthwise_form="auto",  # ours: the numbers are the same
        frontend_form="auto",
        position_form="auto",
        swoosh_form="auto",
        regularise=True,  # code: zipformer
        remat="none",  # ours: the numbers are the same
    )


def _objective(objective: str, source: str) -> ObjectiveConfig:
    return ObjectiveConfig(
        name=objective,
        loss="info_nce",  # paper: symmetric InfoNCE; code: loss info-nce
        reduction={"paper": "mean", "code": "sum"}[source],  # code: clap/loss.py
        embed_reg={"paper": 0.0, "code": 1.0}[source],  # code: clap/model.py
        temperature=0.07,  # code: clap/model_config.py
        learn_temperature=source == "paper",  # code: a constant
        contrastive_share=0.5,  # not used
        learn_bias=False,  # code: SigLIP without a bias
        start_bias=-10.0,  # not used
        max_logit_scale=100.0,  # ours, reached by a learnt temperature only
        exclude_duplicates=False,  # code: the targets are the identity matrix
        chunk=1024,  # ours: the numbers are the same
        autoregressive_share={"paper": 0.25, "code": 1.0}[source],  # paper: 75% parallel; code: probability 0.0
        label_smoothing=0.1,  # code: audio_caption/model_config.py
    )


def _optim() -> OptimConfig:
    return OptimConfig(  # code: both train.yaml, trainer/ddp_trainer.py and optim/
        name="scaled_adam",
        lr=0.045,
        schedule="eden2",  # what "eden" becomes with an endless data set
        warmup_steps=500,
        warmup_start=0.5,
        lr_batches=7500.0,
        lr_scale="",  # one rate for all parameters, BERT's included
        b1=0.9,
        b2=0.98,
        eps=1e-8,
        clipping_scale=2.0,
        clipping_period=100,
        scalar_lr_scale=0.1,
        size_period=4,
    )


def _train(source: str, started: bool) -> TrainConfig:
    return TrainConfig(
        # paper: training; code: num_steps
        steps={"paper": 200_000 if started else 600_000, "code": 300_000}[source],
        accumulate=1,  # ours: the loss is the same, draws and statistics of regularisers are those of a part
        log_every=50,  # code: log_interval
        logs="jsonl",  # ours; code: TensorBoard
        plan="",  # ours
        profile_steps="",  # ours
        gc_every=100,  # ours
        validate_every=4000,  # ours: beside probes, an axis for scaling; code: valid_interval
        validate_clips=2048,
        save_every=4000,  # code: save_every_n x valid_interval
        keep=3,  # ours, as the average is part of every checkpoint; code: keep_last_k 30
        keep_every=100_000,  # ours: for curves
        keep_minutes=0.0,
        keep_best=0,
        best_metric="loss",  # not used
        accept_data_change=False,  # ours
        max_bad_steps=10,  # ours
        batch_count_rate=1.0,  # code: one batch a step
        average="running",  # code: use_averaged_model
        average_period=200,  # code: average_period
    )
