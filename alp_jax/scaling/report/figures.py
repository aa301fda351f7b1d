"""Small curves as inline SVG whose colours are CSS variables, so that one page serves light and dark."""

import dataclasses
import io
import math
import re
from collections.abc import Sequence

from alp_jax.config import format_count
from alp_jax.core.errors import UserError
from alp_jax.core.metrics import METRICS, Metric, number
from alp_jax.scaling.questions.crossings import SweepCrossover
from alp_jax.scaling.questions.held_out import HeldOut
from alp_jax.scaling.report.costs import TrainingCost
from alp_jax.scaling.report.summary import Panel

try:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
except ImportError:
    raise UserError("a report needs matplotlib: pip install 'alp_jax[report]'") from None

# drawn in these colours, which are then replaced by variables of the page
_COLORS = {"#010101": "--ink", "#020202": "--muted", "#030303": "--rule", "#040404": "--card"}
_SERIES = {f"#0{i + 1:x}0a0b": f"--series-{i}" for i in range(6)}
_INK, _MUTED, _RULE, _CARD = _COLORS
SERIES = len(_SERIES)
PALETTE = {  # variable of the page -> its colour on a light and on a dark ground
    "--paper": ("#fcfcfa", "#15171a"),
    "--card": ("#ffffff", "#1c1f23"),
    "--ink": ("#1c1e21", "#e8e8e4"),
    "--muted": ("#62676f", "#a0a6ae"),
    "--rule": ("#dcdcd6", "#363b42"),
    "--wash": ("#f2f2ed", "#22262b"),
    "--series-0": ("#1f66c2", "#6aa9f7"),
    "--series-1": ("#c85a12", "#f29a5c"),
    "--series-2": ("#3a8048", "#74c285"),
    "--series-3": ("#8a4bb0", "#c493e6"),
    "--series-4": ("#b02a4c", "#ee7b97"),
    "--series-5": ("#4d7a86", "#8fc0cd"),
    "--good": ("#1d7a3f", "#6fd08f"),
    "--bad": ("#b3261e", "#ff8a80"),
    "--open": ("#8a6100", "#e5b94e"),
}
_LEAST_SPAN = 0.1  # share of a metric's range that the axis spans at least, so that flat curves look flat
_DASHES = ("solid", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (7, 1.5, 1.5, 1.5)))


@dataclasses.dataclass(frozen=True)
class Style:
    """How a curve looks: the numbers of its colour (below ``SERIES``) and dashes; dashed curves have hollow dots."""

    color: int
    dash: int

    @property
    def paint(self) -> str:
        """The colour, as CSS."""
        return list(_SERIES)[self.color]

    @property
    def line(self) -> str | tuple:
        """The dashes, as matplotlib takes them."""
        return _DASHES[self.dash % len(_DASHES)]

    @property
    def fill(self) -> str:
        """The colour inside a dot."""
        return _CARD if self.dash else self.paint


def make_styles(names: Sequence[str]) -> dict[str, Style]:
    """A style for every curve: a colour per objective (the name's first part) where objectives have several curves."""
    objectives = list(dict.fromkeys(name.partition(", ")[0] for name in names))
    if not 1 < len(objectives) < len(names):
        return {name: Style(i % SERIES, i // SERIES) for i, name in enumerate(names)}
    styles, members = {}, dict.fromkeys(objectives, 0)
    for name in names:
        objective = name.partition(", ")[0]
        styles[name] = Style(objectives.index(objective) % SERIES, members[objective])
        members[objective] += 1
    return styles


def panel_svg(
    panel: Panel,
    styles: dict[str, Style],
    fits: dict[str, dict[str, list[float]]],
    held_out: dict[str, HeldOut],
    title: str,
) -> str:
    """One panel: value against pairs, a curve per name, intervals, seeds, and labelled lines to compare with.

    Args:
      fits: curve name -> ``x``, ``y``, ``low``, ``high`` of the fitted error of the metric.
      held_out: curve name -> what the rungs below the top one predict for it, drawn as a diamond.
      title: text for screen readers.
    """
    metric = METRICS[panel.metric]
    with matplotlib.rc_context(_style(title)):
        figure = Figure(figsize=(3.5, 2.35))
        axes = figure.add_axes((0.1, 0.115, 0.66, 0.865))
        for order, (name, points) in enumerate(panel.curves.items()):
            _curve(axes, metric, styles[name], points, fits.get(name), order - (len(panel.curves) - 1) / 2)
        for order, (name, one) in enumerate(sorted(held_out.items())):
            _diamond(axes, metric, styles[name], one, order)
        _limit(axes, panel, held_out)
        _reference_lines(axes, panel)
        rungs = sorted({p.pairs for points in panel.curves.values() for p in points})
        axes.set_xscale("log")
        if rungs:
            axes.set_xlim(rungs[0] / 1.35, rungs[-1] * (1.3 * 1.09 ** len(held_out) if held_out else 1.35))
        axes.xaxis.set_major_locator(FixedLocator(rungs))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(round(value))))
        _value_axis(axes, metric.scale)
        return _inline(figure, title)


def crossing_svg(crossings: Sequence[tuple[str, str, SweepCrossover]], title: str) -> str:
    """Where one objective overtakes the other: a line per (name, note, crossover), over pairs on a log axis.

    The measured range is shaded. A bar is the 95% interval, cut with an arrow at the largest input looked at.
    """
    with matplotlib.rc_context(_style(title)):
        rows = len(crossings)
        height = 0.42 + 0.21 * rows
        figure = Figure(figsize=(5.4, height))
        axes = figure.add_axes((0.4, 0.36 / height, 0.57, 1 - 0.4 / height))
        limit = max(one.limit for *_, one in crossings)
        lowest = min(one.lowest for *_, one in crossings)
        axes.set_xscale("log")
        axes.set_xlim(lowest / 1.5, limit * 1.5)
        axes.axvspan(lowest, max(one.measured for *_, one in crossings), color=_RULE, alpha=0.45, lw=0, zorder=0)
        for k, (name, note, one) in enumerate(crossings):
            _crossing(axes, rows - 1 - k, one, limit)
            text = f"{name.partition(' (')[0]}, {note}  "
            axes.text(0, rows - 1 - k, text, transform=axes.get_yaxis_transform(), ha="right", va="center",
                      fontsize=7.5, color=_INK)  # fmt: skip
        axes.set_ylim(-0.7, rows - 0.3)
        axes.yaxis.set_major_locator(NullLocator())
        axes.xaxis.set_major_locator(LogLocator(numticks=9))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: format_count(round(value)) if value < 1e9 else f"{value / 1e9:g}b")
        )
        _frame(axes)
        return _inline(figure, title)


def cost_svg(costs: Sequence[TrainingCost], styles: dict[str, Style], title: str) -> str:
    """Mean probe score against training FLOPs, a curve per name."""
    with matplotlib.rc_context(_style(title)):
        figure = Figure(figsize=(5.4, 2.9))
        axes = figure.add_axes((0.07, 0.13, 0.9, 0.85))
        for name in dict.fromkeys(cost.curve for cost in costs):
            own = sorted((c for c in costs if c.curve == name), key=lambda c: c.flops)
            style = styles[name]
            x, y = [c.flops for c in own], [c.score for c in own]
            axes.plot(
                x, y, color=style.paint, ls=style.line, lw=1.3, marker="o", ms=4.5, mec=style.paint, mfc=style.fill
            )
        axes.set_xscale("log")
        low, high = min(c.flops for c in costs), max(c.flops for c in costs)
        axes.set_xlim(low / 1.4, high * 1.4)
        few = high / low < 30  # decades alone would leave one label or none
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e+", "e")))
        _value_axis(axes, 100.0)
        return _inline(figure, title)


def standalone(svg: str) -> str:
    """A drawing of this module outside a report: on white, with the light colours in place of the page's variables."""
    for variable, (light, _) in PALETTE.items():
        svg = svg.replace(f"var({variable})", light)
    svg = svg.replace("var(--sans)", "sans-serif")
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg ", f'<svg {spaces} style="background: white" ', 1)


def _style(title: str) -> dict:
    # text stays text; the salt makes ids differ between the figures of a page, and stay the same on every run
    return {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9, "axes.linewidth": 0.7}


def _curve(axes, metric: Metric, style: Style, points: list, fit: dict[str, list[float]] | None, order: float) -> None:
    color = style.paint
    x = [p.pairs * (1.0 + 0.03 * order) for p in points]  # side by side, so that intervals do not hide one another
    y = [p.mean for p in points]
    if fit is not None:
        middle, low, high = ([metric.value(error) for error in fit[key]] for key in ("y", "low", "high"))
        axes.plot(fit["x"], middle, color=color, ls=style.line, lw=1.4, zorder=3)
        axes.fill_between(fit["x"], low, high, color=color, alpha=0.12, lw=0, zorder=1)
    else:
        axes.plot(x, y, color=color, ls=style.line, lw=1.2, zorder=3)
    for px, p in zip(x, points, strict=True):
        if p.low is not None:
            axes.plot([px, px], [p.low, p.high], color=color, lw=1.0, zorder=4, solid_capstyle="round")
        axes.plot([px] * len(p.values), p.values, ls="", marker="o", ms=2.2, color=color, alpha=0.5, zorder=5, mew=0)
    axes.plot(x, y, ls="", marker="o", ms=4.2, color=color, mfc=style.fill, zorder=6, mew=0.9)


def _diamond(axes, metric: Metric, style: Style, one: HeldOut, order: int) -> None:
    x = one.pairs * 1.25 * 1.09**order  # beside the measured rung
    axes.plot([x, x], [metric.value(one.high), metric.value(one.low)], color=style.paint, lw=0.8, zorder=4)
    axes.plot(
        [x],
        [metric.value(one.predicted)],
        ls="",
        marker="D",
        ms=3.6,
        color=style.paint,
        mfc=style.fill,
        mew=0.9,
        zorder=6,
    )


def _crossing(axes, y: int, one: SweepCrossover, limit: float) -> None:
    low, high = (v or limit for v in one.interval)
    axes.axhline(y, color=_RULE, lw=0.5, zorder=1)
    if one.interval[0] is not None:
        axes.plot([low, high], [y, y], color=_INK, lw=1.4, zorder=3, solid_capstyle="butt")
        if one.interval[1] is None:
            axes.plot([limit * 1.15], [y], ls="", marker=">", ms=4, color=_INK, mew=0, zorder=4)
    if one.at is None:
        axes.text(limit * 1.3, y + 0.1, f"none: {one.ahead} stays ahead", ha="right", va="bottom", fontsize=6.5,
                  color=_MUTED)  # fmt: skip
    else:
        axes.plot([one.at], [y], ls="", marker="o", ms=4.5, color=_INK, zorder=5, mew=0)


def _limit(axes, panel: Panel, held_out: dict[str, HeldOut]) -> None:
    """Limits the panel to what was measured: the band of a law that is hardly known may run out of it."""
    points = [point for points in panel.curves.values() for point in points]
    values = [v for p in points for v in (*p.values, p.low, p.high) if v is not None]
    metric = METRICS[panel.metric]
    values += [metric.value(one.predicted) for one in held_out.values()]
    low, high = min(values), max(values)
    least = _LEAST_SPAN * (metric.high - metric.low) if math.isfinite(metric.high) else 0.0
    middle, half = (low + high) / 2, max(high - low, least) / 2
    axes.set_ylim(max(metric.low, middle - 1.08 * half), middle + 1.08 * half)


def _reference_lines(axes, panel: Panel) -> None:
    """Lines that would squeeze the curves together are named at the edge instead, with an arrow."""
    lines = [("chance", panel.chance, (0, (1, 2)))]
    lines += [("floor", panel.floor, (0, (5, 2)))]
    lines += [("untrained", panel.untrained.mean if panel.untrained else None, (0, (6, 2, 1, 2)))]
    lines += [("start", panel.start.mean if panel.start else None, (0, (2, 2, 6, 2)))]
    lines = [line for line in lines if line[1] is not None]
    low, high = axes.get_ylim()
    reach = high - low
    near = [line for line in lines if low - 0.7 * reach < line[1] < high + 0.7 * reach]
    for _, value, dashes in near:
        axes.axhline(value, color=_MUTED, lw=1.0, ls=dashes, zorder=2)
    low, high = min([low, *(line[1] for line in near)]), max([high, *(line[1] for line in near)])
    pad = 0.04 * (high - low)
    low, high = max(METRICS[panel.metric].low, low - pad), high + pad
    axes.set_ylim(low, high)
    gap, lowest = 0.075, -1.0
    for name, value, dashes in sorted(lines, key=lambda line: line[1]):
        shown = (name, value, dashes) in near
        arrow = "" if shown else " ↓" if value < low else " ↑"
        height = lowest = max((value - low) / (high - low) if shown else 0.02 if value < low else 0.9, lowest + gap)
        text = f"{name} {number(panel.metric, value, 0)}{arrow}"
        axes.text(
            1.02, height, text, transform=axes.transAxes, color=_MUTED, va="center",
            fontsize=8,
        )  # fmt: skip


def _value_axis(axes, scale: float) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{scale * value:g}"))
    axes.grid(axis="y", color=_RULE, lw=0.6)
    _frame(axes)


def _frame(axes) -> None:
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.tick_params(colors=_INK, labelcolor=_MUTED, length=0, labelsize=8.5)


def _inline(figure: Figure, title: str) -> str:
    text = io.StringIO()
    FigureCanvasSVG(figure).figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    box = re.search(r'viewBox="([^"]+)"', svg)[1]
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    svg = re.sub(r"<svg[^>]*>", f'<svg viewBox="{box}" role="img" aria-label="{label}">', svg, count=1)
    # matplotlib uses the same ids in every figure, and the page holds many
    prefix = re.sub(r"\W+", "-", title)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    for color, variable in (_COLORS | _SERIES).items():
        svg = svg.replace(color, f"var({variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px var(--sans)", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()
