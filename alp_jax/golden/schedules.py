"""The case of the schedules: values over the batch count, and those of the default encoder."""

import math
import re
from collections.abc import Iterator
from typing import Any

from alp_jax.config.schema import ZipformerConfig
from alp_jax.core.files import read_json
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare
from alp_jax.models.functional import outline
from alp_jax.models.regularisers import Schedule, schedules_of
from alp_jax.models.zipformer.encoder import Zipformer

_TOLERANCE = 1e-6  # values are below 100 and computed in float32
DEFAULTS = "zipformer_default_scheduled_floats.json"
# our path -> the reference's name; the first pattern that matches decides
_NAMES = (
    (r"encoder_embed/balancer0/(\w+)", r"encoder_embed.conv.2.\1"),
    (r"encoder_embed/balancer4/(\w+)", r"encoder_embed.conv.5.\1"),
    (r"encoder_embed/balancer7/(\w+)", r"encoder_embed.conv.8.\1"),
    (r"encoder_embed/convnext/skip_rate", "encoder_embed.convnext.layerdrop_rate"),
    (r"encoder_embed/dropout_rate", "encoder_embed.dropout.p"),
    (r"(.*)/dropout_rate", r"\1/out_proj.dropout_p"),
    (r"(.*)/limit/low", r"\1/scale_min"),
    (r"(.*)/limit", r"\1/whitening_limit"),
    (r"(.*)/pos_skip_rate", r"\1/pos_emb_skip_rate"),
)
# The reference's downsampling modules have a dropout that nothing uses.
_UNUSED = re.compile(r".*(downsample|downsample_output)\.dropout")


def check(case: Case) -> Iterator[Line]:
    """Values of single schedules, then one line per distinct schedule of the default encoder and all that follow it."""
    for row in case.table():
        schedule = Schedule(tuple(map(tuple, row["pairs"])))
        values = [float(schedule(count)) for count in row["batch_count"]]
        yield compare(case.name, f"values of {_text(schedule)}", values, row["value"], _TOLERANCE)
    defaults = case.folder / DEFAULTS
    if defaults.is_file():
        yield from _defaults(case, read_json(defaults, "golden table"))


def _defaults(case: Case, rows: list[dict[str, Any]]) -> Iterator[Line]:
    config = ZipformerConfig()
    ours = {_reference_name(path, config): s for path, s in schedules_of(outline(_default)).items()}
    listed = set()
    for row in rows:
        schedule = Schedule(tuple(map(tuple, row["pairs"])))
        names = [name for name in row["modules"] if not _UNUSED.fullmatch(name)]
        listed.update(names)
        worst = max((_difference(ours.get(name), schedule) for name in names), default=0.0)
        yield Line(case.name, f"{len(names)} x {_text(schedule)}", worst, _TOLERANCE)
    # the reference lists a schedule once where several modules of a layer share it; all others must be listed
    shared = {schedule for name, schedule in ours.items() if name in listed}
    extra = [name for name, s in ours.items() if name not in listed and len(s.points) > 1 and s not in shared]
    yield compare(case.name, f"schedules only here {extra[:1] or ''}", len(extra), 0.0, 0)


def _default(rngs) -> Zipformer:
    return Zipformer(ZipformerConfig(), rngs=rngs)


def _reference_name(path: str, config: ZipformerConfig) -> str:
    for pattern, name in _NAMES:
        if match := re.fullmatch(pattern, path):
            path = match.expand(name)
            break
    name = path.replace("/", ".")
    if not name.startswith("encoders."):
        return name
    stack = int(name.split(".")[1])
    if config.downsampling_factor[stack] > 1:
        name = re.sub(r"(encoders\.\d+)\.layers", r"\1.encoder.layers", name)
    return f"encoder.{name}"


def _difference(ours: Schedule | None, theirs: Schedule) -> float:
    if ours is None or len(ours.points) != len(theirs.points):
        return math.inf
    pairs = zip(ours.points, theirs.points, strict=True)
    return max(abs(a - b) / max(abs(b), 1.0) for one, other in pairs for a, b in zip(one, other, strict=True))


def _text(schedule: Schedule) -> str:
    return " ".join(f"{value:.3g}@{count:.5g}" for count, value in schedule.points)
