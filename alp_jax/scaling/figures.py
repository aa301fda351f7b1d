"""Small curves as inline SVG whose colours are CSS variables, so that one page serves light and dark."""

import io
import re

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from alp_jax.config import format_count
from alp_jax.scaling.summary import Panel

# drawn in these colours, which are then replaced by variables of the page
_COLORS = {"#010101": "--ink", "#020202": "--muted", "#030303": "--rule"}
_SERIES = {f"#0{i + 1:x}0a0b": f"--series-{i}" for i in range(6)}
_INK, _MUTED, _RULE = _COLORS
SERIES = len(_SERIES)


def panel_svg(panel: Panel, colors: dict[str, int], fits: dict[str, dict[str, list[float]]], title: str) -> str:
    """One panel: value against pairs, a curve per name, intervals, seeds, and labelled lines to compare with.

    Args:
      colors: curve name -> number of its colour, below ``SERIES``.
      fits: curve name -> ``x``, ``y``, ``low``, ``high`` of the fitted error 1 - value.
      title: what a screen reader says.
    """
    # text stays text; the salt keeps the ids of different figures on a page apart and the same on every run
    style = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9, "axes.linewidth": 0.7}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(3.5, 2.35))
        axes = figure.add_axes((0.1, 0.115, 0.66, 0.865))
        for name, points in panel.curves.items():
            _curve(axes, list(_SERIES)[colors[name]], points, fits.get(name), list(panel.curves).index(name))
        _reference_lines(axes, panel)
        _dress(axes, sorted({p.pairs for points in panel.curves.values() for p in points}))
        text = io.StringIO()
        FigureCanvasSVG(figure).figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue(), title)


def _curve(axes, color: str, points: list, fit: dict[str, list[float]] | None, order: int) -> None:
    shift = 1.0 + 0.03 * (order - 0.5)  # side by side, so that intervals do not hide one another
    x = [p.pairs * shift for p in points]
    y = [p.mean for p in points]
    if fit is not None:
        axes.plot(fit["x"], [1 - v for v in fit["y"]], color=color, lw=1.6, zorder=3)
        high, low = [1 - v for v in fit["low"]], [1 - v for v in fit["high"]]
        axes.fill_between(fit["x"], low, high, color=color, alpha=0.15, lw=0, zorder=1)
    else:
        axes.plot(x, y, color=color, lw=1.2, zorder=3)
    for px, p in zip(x, points, strict=True):
        if p.low is not None:
            axes.plot([px, px], [p.low, p.high], color=color, lw=1.1, zorder=4, solid_capstyle="round")
        axes.plot([px] * len(p.values), p.values, ls="", marker="o", ms=2.4, color=color, alpha=0.55, zorder=5, mew=0)
    axes.plot(x, y, ls="", marker="o", ms=5, color=color, zorder=6, mew=0)


def _reference_lines(axes, panel: Panel) -> None:
    lines = [("chance", panel.chance, (0, (1, 2)))]
    lines += [("floor", panel.floor, (0, (5, 2)))]
    lines += [("untrained", panel.untrained.mean if panel.untrained else None, (0, (6, 2, 1, 2)))]
    lines = [line for line in lines if line[1] is not None]
    for _, value, dashes in lines:
        axes.axhline(value, color=_MUTED, lw=1.0, ls=dashes, zorder=2)
    low, high = axes.get_ylim()
    pad = 0.04 * (high - low)
    axes.set_ylim(max(low - pad, min(0.0, low)), high + pad)
    low, high = axes.get_ylim()
    gap, below = 0.075 * (high - low), low - 1.0
    for name, value, _ in sorted(lines, key=lambda line: line[1]):
        place = below = max(value, below + gap)
        axes.text(
            1.02, (place - low) / (high - low), f"{name} {100 * value:.0f}", transform=axes.transAxes, color=_MUTED,
            va="center", fontsize=8,
        )  # fmt: skip


def _dress(axes, rungs: list[int]) -> None:
    axes.set_xscale("log")
    if rungs:
        axes.set_xlim(rungs[0] / 1.35, rungs[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(rungs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(round(value))))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.grid(axis="y", color=_RULE, lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.tick_params(colors=_INK, labelcolor=_MUTED, length=0, labelsize=8.5)


def _inline(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    box = re.search(r'viewBox="([^"]+)"', svg)[1]
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    svg = re.sub(r"<svg[^>]*>", f'<svg viewBox="{box}" role="img" aria-label="{label}">', svg, count=1)
    # ids of matplotlib are the same in every figure: the page holds many
    prefix = re.sub(r"\W+", "-", title)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    for color, variable in (_COLORS | _SERIES).items():
        svg = svg.replace(color, f"var({variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px var(--sans)", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()
