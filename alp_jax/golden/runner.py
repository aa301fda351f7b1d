"""Finds the cases of a folder, runs each with the checker of its kind and counts what failed."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

from alp_jax.config.errors import ConfigError
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.names import nearest
from alp_jax.golden import (
    caption,
    clap,
    fbank,
    functions,
    modules,
    optimizer,
    retrieval,
    schedules,
    spec_augment,
    start_values,
    text_clean,
    zipformer,
)
from alp_jax.golden.case import Case, find_cases
from alp_jax.golden.compare import Line

CHECKERS: dict[str, Callable[[Case], Iterator[Line]]] = {
    "audio-caption": caption.check,
    "clap": clap.check,
    "fbank": fbank.check,
    "retrieval": retrieval.check,
    "spec_augment": spec_augment.check,
    "text_clean": text_clean.check,
    "zipformer_forward": zipformer.check,
    "zipformer_grad": zipformer.check_gradients,
    "zipformer_grad_train": zipformer.check_gradients,
    "act_dropout_linear": functions.check_activation_and_linear,
    "balancer": functions.check_balancer,
    "bias_norm": functions.check_bias_norm,
    "bypass": modules.check_bypass,
    "compact_rel_pos": functions.check_positions,
    "conv2d_subsampling": modules.check_subsampling,
    "convnext": modules.check_convnext,
    "convolution_module": modules.check_convolution,
    "downsampled_encoder": modules.check_downsampled_stack,
    "dropout3": functions.check_dropout,
    "encoder_layer": modules.check_layer,
    "encoder_layer_seq_dropout": modules.check_layer,
    "feature_masks": functions.check_feature_masks,
    "feedforward": modules.check_feedforward,
    "limit_param_value": functions.check_limit,
    "nonlin_attention": modules.check_nonlin_attention,
    "penalize_abs_values_gt": functions.check_penalty,
    "rel_pos_attn_weights": modules.check_attention_weights,
    "eden": optimizer.check_eden,
    "model_averaging": optimizer.check_averaging,
    "scaled_adam": optimizer.check_scaled_adam,
    "scaled_adam_groups": optimizer.check_groups,
    "schedules": schedules.check,
    "init_stats": start_values.check,
    "scale_grad": functions.check_scale_grad,
    "self_attention": modules.check_self_attention,
    "simple_downsample_upsample": modules.check_downsample,
    "swoosh_l": functions.check_swoosh_l,
    "swoosh_r": functions.check_swoosh_r,
    "whiten": functions.check_whiten,
}


@dataclasses.dataclass(frozen=True)
class Result:
    """Outcome of one case: its lines, and why it stopped when it could not be run to its end."""

    case: str
    lines: tuple[Line, ...]
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem and bool(self.lines) and all(line.ok for line in self.lines)


def select(root: pathlib.Path, names: list[str], skip: list[str]) -> tuple[list[Case], list[Case]]:
    """(cases to run, cases left out) of ``root``; a name stands for a case or for a folder of cases.

    Raises:
      UserError: a name of neither a case nor a folder below ``root``.
    """
    cases = find_cases(root)
    for flag, given in (("--case", names), ("--skip", skip)):
        for name in given:
            if not any(_covers(name, case) for case in cases) and not (flag == "--skip" and (root / name).is_dir()):
                raise UserError(f"{flag} {name}: no such case{nearest(name, [case.name for case in cases])}")
    wanted = [case for case in cases if not names or any(_covers(name, case) for name in names)]
    left_out = [case for case in wanted if any(_covers(name, case) for name in skip)]
    return [case for case in wanted if case not in left_out], left_out


def _covers(name: str, case: Case) -> bool:
    return case.name == name or case.name.startswith(name.rstrip("/") + "/")


def run_case(case: Case, report: Callable[[Line], None] = lambda line: None) -> Result:
    """Runs one case; a kind without checker or an unusable file is a problem of that case, never an exception."""
    lines: list[Line] = []
    try:
        kind = case.config["kind"]
        if kind not in CHECKERS:
            raise UserError(f"kind {kind!r} has no checker")
        for line in CHECKERS[kind](case):
            lines.append(line)
            report(line)
    except (AlpError, ConfigError) as error:
        return Result(case.name, tuple(lines), " ".join(str(error).split()))
    except Exception as error:  # a case that breaks the checker has failed; the others still run
        return Result(case.name, tuple(lines), f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Result(case.name, tuple(lines))
