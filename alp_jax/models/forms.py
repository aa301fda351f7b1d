"""Forms of the slow parts of the encoders: equal results, different speed on different backends.

    depthwise  shift: sums of shifted copies with a gradient of its own; lax: grouped convolution.
    frontend   shift: the first convolution as nine multiply-adds, the kernel's gradient of the widest one as nine
               matrix products; lax: ordinary convolutions.
    position   direct: the small table is gathered for every pair of frames, then multiplied; skew: scores of all
               2T - 1 offsets, then shifted row by row.
    swoosh     own: a hand-written gradient that keeps only the input; autodiff: what jax derives from the formula.

``auto`` is the first of each on CPU. On other backends the convolutions are lax's: shifted copies would move a quarter
more bytes on a TPU, and launch a few hundred more kernels on a GPU.
"""

import dataclasses

import jax

from alp_jax.config.schema import ModelConfig
from alp_jax.core.names import choose
from alp_jax.core.target import backend

CHOICES = {
    "depthwise": ("shift", "lax"),
    "frontend": ("shift", "lax"),
    "position": ("direct", "skew"),
    "swoosh": ("own", "autodiff"),
}
_LAX_OFF_CPU = ("depthwise", "frontend")


@dataclasses.dataclass(frozen=True)
class Forms:
    """One of ``CHOICES`` for each part, or ``auto``."""

    depthwise: str = "auto"
    frontend: str = "auto"
    position: str = "auto"
    swoosh: str = "auto"

    @classmethod
    def of(cls, config: ModelConfig) -> "Forms":
        """The forms that the configuration names, resolved; an unknown form is a UserError that names the setting."""
        return cls(**{part: getattr(config, f"{part}_form") for part in CHOICES}).resolved()

    def resolved(self) -> "Forms":
        """The same forms with ``auto`` replaced by what suits the backend.

        Raises:
          UserError: an unknown form.
        """
        return Forms(**{part: resolve_form(part, getattr(self, part)) for part in CHOICES})


AUTO = Forms()
PLAIN = Forms(**{part: choices[-1] for part, choices in CHOICES.items()})  # the baseline of speed comparisons


def resolve_form(part: str, form: str) -> str:
    """``form`` of ``part``, or what suits the backend for ``auto``; an unknown form is a UserError."""
    first, last = CHOICES[part]
    choose(form, ("auto", first, last), f"config.model.{part}_form")
    if form != "auto":
        return form
    return last if part in _LAX_OFF_CPU and backend(jax.default_backend) != "cpu" else first
