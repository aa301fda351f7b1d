"""Hints for a setting that was asked for under another name or given the wrong kind of value."""

import difflib
import functools
import typing
from collections.abc import Iterable
from typing import Any

from alp_jax.config.arguments import choose
from alp_jax.config.domain import Setting, settings_of
from alp_jax.config.errors import ConfigError
from alp_jax.config.schema import RunConfig
from alp_jax.config.sizes import MODELS

# Names of our settings in other toolboxes. ``model=NAME`` and the like are arguments of a config file.
_OTHER_NAMES = {
    "optim.lr": "learning_rate base_lr peak_lr max_lr initial_lr init_lr lr_peak",
    "optim.name": "optimizer optimiser opt optimizer_name optim_name",
    "optim.schedule": "scheduler lr_scheduler lr_schedule lr_scheduler_type sched",
    "optim.warmup_steps": "warmup num_warmup_steps warmup_iters warm_step warm_up warmup_updates warmup_epochs",
    "optim.weight_decay": "wd weightdecay l2",
    "optim.b1": "beta1 adam_beta1",
    "optim.b2": "beta2 adam_beta2",
    "optim.eps": "epsilon adam_epsilon adam_eps",
    "optim.clip_norm": "grad_clip gradient_clip grad_clip_norm max_grad_norm gradient_clip_val clip_grad "
    "clip_grad_norm",
    "optim.final_lr_fraction": "min_lr end_lr lr_min final_lr",
    "train.steps": "epochs num_epochs max_epochs max_steps num_steps total_steps train_steps iterations num_iterations "
    "max_iters max_updates num_train_steps num_train_epochs",
    "train.accumulate": "accum_steps accum_freq accum grad_accum gradient_accumulation gradient_accumulation_steps "
    "accumulate_grad_batches update_freq microbatches",
    "train.log_every": "log_interval logging_steps log_freq log_steps log_every_n_steps print_every log_period",
    "train.save_every": "save_interval save_steps save_freq save_frequency checkpoint_every checkpoint_interval "
    "ckpt_every ckpt_interval save_every_n checkpoint_period save_period",
    "train.keep": "keep_last keep_last_k max_to_keep save_total_limit keep_checkpoints max_checkpoints",
    "train.logs": "wandb tensorboard logger loggers report_to tracker writer",
    "train.average": "ema use_ema swa average_model",
    "train.ema_decay": "ema_rate ema_momentum",
    "data.clips_per_batch data.batch_seconds": "batch_size batch bs global_batch_size train_batch_size "
    "local_batch_size per_device_train_batch_size micro_batch_size batchsize max_batch_size",
    "data.batch_seconds": "max_duration batch_duration max_audio_seconds",
    "data.path": "dataset data_dir data_path train_data root data_root dataset_path train_dir",
    "data.workers": "num_workers dataloader_num_workers loader_workers",
    "data.text_budget": "max_length max_text_length context_length max_tokens max_len max_caption_length seq_len",
    "data.bucket_seconds": "buckets clip_length clip_seconds max_audio_length duration crop_length",
    "data.sources": "source corpora datasets",
    "data.pairs": "num_pairs num_samples max_samples rung",
    "features.num_mel_bins": "n_mels num_mels mel_bins nmels",
    "features.low_hz": "fmin f_min low_freq",
    "features.high_hz": "fmax f_max high_freq",
    "features.spec_augment.enabled": "spec_aug specaug specaugment enable_spec_aug augment augmentation",
    "model.compute_dtype": "precision dtype amp bf16 fp16 mixed_precision half use_fp16 use_bf16",
    "model.remat": "grad_checkpointing gradient_checkpointing activation_checkpointing checkpointing rematerialize",
    "model.shared_emb_dim": "embed_dim embedding_dim projection_dim emb_dim joint_embed_dim",
    "model.text.max_position_embeddings": "max_positions",
    "model=NAME": "arch architecture model_name backbone encoder encoder_name preset model_size",
    "objective=NAME": "task method",
    "init": "pretrained checkpoint init_from finetune resume_from load_from pretrained_model ckpt restore",
    "objective.loss": "loss_type criterion",
    "objective.temperature": "tau temp init_temperature logit_scale",
    "seed": "random_seed rng_seed prng_seed",
    "mesh.data": "devices num_devices gpus num_gpus dp world_size n_gpus",
    "mesh.fsdp": "zero sharding",
    "mesh.tensor": "tp tensor_parallel model_parallel",
}
_ALIASES = {name: settings.split() for settings, names in _OTHER_NAMES.items() for name in names.split()}
# What a group of settings that is given a value may mean.
_GROUPS = {"config.model": "model", "config.objective": "objective", "config.data": "path", "config.optim": "name"}


@functools.cache
def known() -> dict[str, Setting]:
    """Every setting of a run by its dotted name, which begins with ``config``."""
    return {f"config.{one.name}": one for one in settings_of(RunConfig)}


def unknown(name: str) -> str:
    """One line on the dotted ``name`` that is not a setting, with the ones that were probably meant."""
    section, _, last = name.rpartition(".")
    key = last.lower().replace("-", "_")
    complaint = f"unknown setting {name}"
    if meant := [_use(setting) for setting in _ALIASES.get(key, ())] or [_use(n) for n in _called(key, section)]:
        return f"{complaint}: use {' or '.join(meant[:3])}"
    beside = {n.removeprefix(f"{section}.").partition(".")[0] for n in known() if n.startswith(f"{section}.")}
    if close := difflib.get_close_matches(key, sorted(beside), n=1, cutoff=0.6):
        return f"{complaint} (nearest: {section}.{close[0]})"
    if close := difflib.get_close_matches(key, sorted(_ALIASES), n=1, cutoff=0.8):
        return f"{complaint}: use {' or '.join(_use(setting) for setting in _ALIASES[close[0]])}"
    lasts = {n.rpartition(".")[2]: n for n in known()}
    if close := difflib.get_close_matches(key, sorted(lasts), n=1, cutoff=0.6):
        return f"{complaint} (nearest: {lasts[close[0]]})"
    there = f"{section} has {', '.join(sorted(beside))}" if beside else f"{section} is a setting, not a group of them"
    return f"{complaint}: {there}"


def stray(name: str, fields: Iterable[str]) -> str:
    """One line on the dotted ``name`` that is not among the ``fields`` of a dataclass outside the settings of a run."""
    section, _, last = name.rpartition(".")
    close = difflib.get_close_matches(last, sorted(fields), n=1, cutoff=0.6)
    meant = f"nearest: {section}.{close[0]}" if close else f"known: {', '.join(fields)}"
    return f"unknown setting {name} ({meant})"


def _called(key: str, section: str) -> list[str]:
    """Settings with that last name, those in the same part of the tree first."""
    same_name = [name for name in known() if name.rpartition(".")[2] == key]
    return sorted(same_name, key=lambda name: not name.startswith(section.rpartition(".")[0] + "."))


def _use(setting: str) -> str:
    if "=" in setting:
        return f"the argument {setting} of the config file (--config=FILE.py:{setting})"
    name = setting if setting.startswith("config.") else f"config.{setting}"
    return f"{name} ({known()[name].domain.meaning})"


def of_group(name: str, text: str, config: str) -> str:
    """One line on the group ``name`` that was given ``text`` as if it were a setting.

    ``config``: ``FILE:ARGUMENTS`` of the command line.
    """
    complaint, meant = f"{name} is a group of settings, not a single one", _GROUPS.get(name)
    if meant in ("model", "objective"):
        if meant == "model" and text not in MODELS:
            try:
                choose(text, MODELS, "model")
            except ConfigError as error:
                return f"{complaint}; a preset is chosen by the argument model=NAME of the config file: {error}"
        return f"{complaint}: use {argument(config, meant, text)}"
    if meant:
        return f"{complaint}: did you mean --{name}.{meant}={text}?"
    inside = sorted({n.removeprefix(f"{name}.").partition(".")[0] for n in known() if n.startswith(f"{name}.")})
    return f"{complaint}: it has {', '.join(inside)}"


def argument(config: str, key: str, value: str) -> str:
    """``--config=FILE:ARGUMENTS`` with one more argument, or with another value for it."""
    file, _, arguments = config.partition(":")
    kept = [part for part in arguments.split(",") if part and not part.startswith(f"{key}=")]
    return f"--config={file}:{','.join([*kept, f'{key}={value}'])}"


def of_value(name: str, text: str | None) -> str:
    """One line on the setting ``name`` when given ``text`` of the wrong kind, or None when given nothing."""
    setting = known()[name]
    needed = _KINDS.get(_item(setting.kind), "a value")
    if typing.get_origin(setting.kind) is tuple:
        needed = f"a list of {needed.partition(' ')[2]}s such as ({_item(setting.kind)(8)},)"
    unit = f", {setting.domain.unit}" if setting.domain.unit else ""
    limits = f" ({setting.domain.range()}{unit})" if setting.domain.range() else ""
    got = "nothing" if text is None else repr(text)
    return f"{name} is given {got}: it must be {needed}{limits}; {setting.domain.meaning}"


def can_be(name: str, text: str | None) -> bool:
    """Whether ``text`` is of the kind of the setting ``name``; lists are not looked into. None: a flag alone."""
    kind = known()[name].kind
    if text is None:
        return kind is bool
    if kind is bool:
        return text.lower() in ("true", "t", "1", "false", "f", "0")
    if kind not in (int, float):
        return True
    try:
        kind(text)
    except ValueError:
        return False
    return True


def of_name(name: str) -> str:
    """Where the unknown flag ``name`` is a setting without ``config.`` or like one, how that is given; else empty."""
    name = name.lstrip("-").partition("=")[0].removeprefix("config.")
    if f"config.{name}" in known():
        return f"; settings are given as --config.{name}=VALUE"
    if name.rpartition(".")[2].lower().replace("-", "_") in _ALIASES or _called(name, "config"):
        return f"; {unknown(f'config.{name}').partition(': ')[2]}"
    return ""


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _item(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
