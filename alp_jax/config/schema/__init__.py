"""Every setting of a run as frozen dataclasses; ``RunConfig`` is the whole of it.

Field comments give the unit and the source of a default. Nothing below ``resolve`` looks a setting up by string.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class SpecAugmentConfig:
    """SpecAugment as the reference applies it (lhotse's defaults): masks and a time warp, filled with the mean."""

    enabled: bool = True
    probability: float = 0.9  # drawn once for the warp and once for the masks
    time_warp: int = 80  # frames; 0 turns the warp off
    num_feature_masks: int = 2
    feature_mask_width: int = 27  # mel bins, exclusive
    num_time_masks: int = 10
    time_mask_width: int = 100  # frames, exclusive
    max_time_fraction: float = 0.15


@dataclasses.dataclass(frozen=True)
class FeatureConfig:
    """Kaldi-compatible log-mel filterbank: 25 ms Povey windows every 10 ms at 16 kHz."""

    num_mel_bins: int = 80
    low_hz: float = 20.0
    high_hz: float = 7600.0
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()


@dataclasses.dataclass(frozen=True)
class ZipformerConfig:
    """Zipformer encoder; the defaults are Zipformer-M (65.9 M parameters). Names follow the reference's config.json."""

    feature_dim: int = 80
    output_downsampling_factor: int = 2
    num_encoder_layers: tuple[int, ...] = (2, 2, 3, 4, 3, 2)
    downsampling_factor: tuple[int, ...] = (1, 2, 4, 8, 4, 2)
    encoder_dim: tuple[int, ...] = (192, 256, 384, 512, 384, 256)
    feedforward_dim: tuple[int, ...] = (576, 768, 1152, 1536, 1152, 768)
    num_heads: tuple[int, ...] = (4, 4, 4, 8, 4, 4)
    query_head_dim: tuple[int, ...] = (32,)  # tuples of length 1 hold for every stack
    value_head_dim: tuple[int, ...] = (12,)
    pos_head_dim: tuple[int, ...] = (4,)
    pos_dim: int = 48
    encoder_unmasked_dim: tuple[int, ...] = (192, 192, 256, 256, 256, 192)
    cnn_module_kernel: tuple[int, ...] = (31, 31, 15, 15, 15, 31)
    causal: bool = False
    chunk_size: tuple[int, ...] = (
        -1,
    )  # frames at 50 Hz, -1 the whole clip; training draws one per batch, else the first
    left_context_frames: tuple[int, ...] = (-1,)  # likewise; -1 everything before
    warmup_batches: float = 4000.0  # over which the layers come into play one after another, lowest first
    frontend_channels: tuple[int, int, int] = (8, 32, 128)  # the reference's constants; small models shrink them


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Vision transformer on log-mel patches (AST, Gong et al. 2021); the defaults cost about what Zipformer-M costs."""

    feature_dim: int = 80
    patch_frames: int = 16  # patches do not overlap
    patch_bins: int = 16
    frame_stride: int = 4  # features per output frame: 25 frames per second
    width: int = 512
    num_layers: int = 9
    num_heads: int = 8
    mlp_dim: int = 2048
    dropout: float = 0.1
    attention_dropout: float = 0.0
    mel_mean: float = -4.27  # features are standardised with AST's statistics of AudioSet; padding is then zero
    mel_std: float = 4.57


@dataclasses.dataclass(frozen=True)
class ConformerConfig:
    """Conformer (Gulati et al. 2020); the defaults have the width of its medium size and about Zipformer-M's cost."""

    feature_dim: int = 80
    subsampling_channels: int = 128  # of the two convolutions in front; the paper does not say how many
    width: int = 256
    num_layers: int = 19
    num_heads: int = 4
    ff_dim: int = 1024
    kernel: int = 31
    dropout: float = 0.1
    mel_mean: float = -4.27  # as for the ViT
    mel_std: float = 4.57


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """BERT-shaped text tower; the defaults are BERT-base without pooler. Names follow transformers' BertConfig."""

    vocab_size: int = 50000
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """BART-shaped caption decoder; the defaults are the six layers of BART-base. Names follow the reference."""

    vocab_size: int = 50000
    d_model: int = 768
    num_decoder_layers: int = 6
    decoder_nhead: int = 8
    dim_feedforward: int = 3072
    decoder_dropout: float = 0.1
    decoder_activation: str = "gelu"  # gelu | relu
    decoder_norm_first: bool = False
    decoder_bias: bool = False
    decoder_shared_emb: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The audio encoder with its text side; ``text`` is used by contrastive, ``decoder`` by captioning objectives."""

    name: str = "zipformer_m"
    encoder_kind: str = "zipformer"  # zipformer (settings in encoder) | vit | conformer; the others' are not used
    encoder: ZipformerConfig = ZipformerConfig()
    vit: ViTConfig = ViTConfig()
    conformer: ConformerConfig = ConformerConfig()
    text: TextTowerConfig = TextTowerConfig()
    decoder: DecoderConfig = DecoderConfig()
    shared_emb_dim: int = 1024  # width of the space in which audio and text are compared
    num_tags: int = 527  # of the tagging objective, no fewer than the list in config.data.tags has; AudioSet's number
    compute_dtype: str = "float32"  # float32 | bfloat16; parameters, norms, softmax and losses stay float32
    depthwise_form: str = "auto"  # auto | shift | lax; see models/forms.py for all four
    frontend_form: str = "auto"  # auto | shift | lax
    position_form: str = "auto"  # auto | direct | skew
    swoosh_form: str = "auto"  # auto | own | autodiff
    regularise: bool = True  # dropout, skips, Balancer, Whiten and the other training-only parts of the encoder
    # less memory for a third more computing: none | layers (the encoder's are recomputed in the backward pass) | text
    # (those of the text tower and the decoder) | all (both, and the front end of a Zipformer)
    remat: str = "none"


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Learns ``contrastive`` (clip against caption), ``captioning`` (in order and in parallel), both, or tags."""

    name: str = "contrastive"  # contrastive | captioning | hybrid | tagging (supervised; see config.data.tags)
    contrastive_share: float = 0.5  # hybrid: weight of the contrastive loss; the captioning loss has the rest
    loss: str = "info_nce"  # info_nce | siglip, of the contrastive objective
    reduction: str = "mean"  # mean | sum of the contrastive loss over clips and both directions; the reference sums
    embed_reg: float = 0.0  # weight of the reference's penalty on contrastive embeddings; 1.0 there
    temperature: float = 0.07  # start value when learnt
    learn_temperature: bool = True
    learn_bias: bool = False  # siglip: a bias on all logits that is learnt from start_bias; the reference has none
    start_bias: float = -10.0
    max_logit_scale: float = 100.0
    exclude_duplicates: bool = True  # same recording or same caption in a batch is not a negative
    chunk: int = 1024  # columns of the similarity matrix held at a time
    autoregressive_share: float = 0.25  # of the rows; the rest decode in parallel from MASK tokens (CapPa)
    label_smoothing: float = 0.1


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimiser, its learning rate over the run, and which parameters learn more slowly or not at all."""

    name: str = "adamw"  # adamw | scaled_adam (the reference's, with lr 0.045)
    lr: float = 1e-3
    schedule: str = "cosine"  # cosine (to final_lr_fraction at the last step) | eden | eden2 | eden3
    warmup_steps: int = 500
    warmup_start: float = 0.5  # Eden: share of the rate that the warm-up begins with; cosine begins with 0
    final_lr_fraction: float = 0.0  # cosine
    lr_batches: float = 7500.0  # Eden: steps after which the rate begins to fall
    lr_epochs: float = 3.5  # eden and eden3: the same in epochs
    steps_per_epoch: float = 4000.0  # eden and eden3
    lr_scale: str = ""  # NAME=FACTOR,...: the rate of parameters below NAME (encoder=0.5); 0 freezes them
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    weight_decay: float = 0.01  # adamw: matrices and convolution kernels only
    clip_norm: float = 1.0  # adamw: 0 turns clipping off
    clipping_scale: float = 2.0  # scaled_adam: of the median norm of the last clipping_period steps; 0 turns it off
    clipping_period: int = 100  # scaled_adam
    scalar_lr_scale: float = 0.1  # scaled_adam: rate of single numbers and of parameter sizes
    size_period: int = 4  # scaled_adam: steps between two steps of the sizes


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which shards, how many pairs, and how they become batches."""

    path: str = "data/mini"  # folder or URL
    pairs: int = 0  # audio-caption pairs of the nested ladder; 0 takes every training clip
    sources: str = ""  # NAME,... takes only these, -NAME,... all but these; empty all
    mixture: str = (
        ""  # NAME=WEIGHT,... clips of each source, or in stages STEP:NAME=WEIGHT,...;STEP:... ; empty as stored
    )
    tokenizer: str = ""  # sentencepiece model or tokenizer.json; empty takes tokenizer.model beside the data set
    bucket_seconds: tuple[float, ...] = (
        2.0,
        4.0,
        6.0,
        8.0,
        10.0,
        15.0,
        20.0,
        30.0,
    )  # longer clips are cropped; () chooses
    crop_seconds: float = 30.0  # of chosen buckets: longer clips are cropped to this
    max_padding: float = 0.1  # of chosen buckets: above this share of padding, clips are cropped a little to fit
    batch_seconds: float = 640.0  # seconds of padded audio in a global batch
    clips_per_batch: int = 0  # > 0: this many clips in every batch whatever the bucket (fixed negatives)
    clips_multiple: int = 8  # clips in a batch are a multiple of this, so that meshes of that size share them evenly
    tags: str = ""  # list of tags for the tagging objective, from 'alp tags'
    text_clean: str = "none"  # none | clap | audio_caption: what the reference's recipes do to captions before tokens
    text_budget: int = 128  # tokens per caption before special tokens, for both objectives
    read: str = "random"  # random | sequential: clips in any order, or shard after shard, shuffled inside window_shards
    window_shards: int = 8  # of sequential reading: shards shuffled together; better no fewer than hosts
    shard_cache_gb: float = 64.0  # of sequential reading: shards of a remote data set that a host keeps on its disk
    prefetch_mb: int = 2048  # a host holds no more than this in batches read ahead
    workers: int = 0  # loader processes per host; 0 reads in threads


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 takes what the other axes leave. ``dcn_*``: how many of them in different slices."""

    data: int = -1  # copies of the parameters, rows of the batch
    fsdp: int = 1  # rows of the batch too; parameters and optimiser statistics are split over them
    tensor: int = 1  # heads, feed-forward modules and the vocabulary are split over them
    dcn_data: int = 1  # a slice is a TPU slice or a GPU node, with slower links to the others
    dcn_fsdp: int = 1
    dcn_tensor: int = 1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length, logging and checkpoints of a run, in steps."""

    steps: int = 600_000
    accumulate: int = 1  # parts of a batch that go through the model one after the other; the gradient is the same
    log_every: int = 50
    logs: str = "jsonl"  # NAME,... of jsonl | tensorboard | wandb: where metrics and rates go
    plan: str = ""  # file of "alp plan" with the bytes of a step; empty: of the compiled step, by XLA
    profile_steps: str = ""  # FIRST:END: steps FIRST to END - 1 are traced into profile/ of the run folder
    gc_every: int = 100  # steps between collections of Python's garbage; 0 leaves them to Python
    save_every: int = 4000
    keep: int = 3  # of the latest checkpoints
    keep_every: int = 0  # steps: checkpoints at multiples of it stay too
    keep_minutes: float = 0.0  # one checkpoint in so many minutes of training stays too
    keep_best: int = 0  # so many with the best best_metric stay too
    best_metric: str = "loss"  # mean since the save before; lower is better, or higher with + in front (+accuracy)
    accept_data_change: bool = False  # go on with a run although its data or config.data changed its batches
    max_bad_steps: int = 10  # non-finite steps in a row before the run stops
    batch_count_rate: float = 1.0  # batches by which the encoder's schedules advance in a step
    average: str = "none"  # none | running (mean over the run, as the reference) | ema; what is evaluated and exported
    average_period: int = 200  # running: every so many steps the parameters enter the mean
    ema_decay: float = 0.999  # ema: per step


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The frozen-encoder evaluation after training."""

    suite: str = "mini"  # mini (every task of the data set) | none | TASK,...; runs once, after the last step
    batch_seconds: float = 240.0
    max_seconds: float = 10.0  # longer clips are cut for evaluation
    max_train_clips: int = 300  # per task, spread evenly over its classes; 0 takes all
    max_test_clips: int = 200  # likewise
    retrieval_clips: int = 400  # test clips that are searched; 0 takes all
    alignment_clips: int = 600  # training clips that the linear alignment of audio and words is fitted to; 0 takes all
    lit_steps: int = 400  # of a text tower and of a decoder that learn from the frozen frames; 0 leaves them out
    lit_text: str = "scratch"  # scratch, or the folder of a run or an import whose text tower it begins with
    lit_decoder: str = "scratch"  # likewise for the decoder
    lit_decoder_trains: str = "all"  # all, or cross_attention: the rest of the decoder stays as it began
    caption_beams: int = 4  # of the search for captions; 1 takes the likeliest token each time
    caption_tokens: int = 30  # of a generated caption at most
    prompts: str = ""  # JSON file of zero-shot prompts, beside or in place of the built-in ones
    attention_steps: int = 204  # of the attention probe
    attention_frames: int = 64  # longer clips are reduced to this many by averaging neighbours; 0 reduces nothing


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All settings of one run; what ``config.json`` of a run folder holds."""

    seed: int = 0
    init: str = "scratch"  # scratch, or the folder of a run or an import whose encoder is the start
    init_text: str = "scratch"  # scratch, or the folder of a run or an import whose text tower is the start
    data: DataConfig = DataConfig()
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()
    mesh: MeshConfig = MeshConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvalConfig = EvalConfig()


CLUSTERS = ("env", "none", "slurm", "tpu", "gke")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """The processes of a run and where this one stands among them; flags of a start, not settings of a run."""

    kind: str = (
        "env"  # env (ALP_COORDINATOR, ALP_NUM_PROCESSES, ALP_PROCESS_ID, or one process) | none | slurm | tpu | gke
    )
    coordinator: str = ""  # HOST:PORT on which process 0 listens
    bind: str = ""  # address:port it binds to when that is not what coordinator resolves to
    num_processes: int = 0  # 0: from the environment
    process_id: int = -1  # -1: from the environment
    timeout_s: float = 50.0  # for all processes to come
