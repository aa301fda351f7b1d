"""Fits one law to every curve of a table, and writes the results."""

import csv
import dataclasses
import io
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.files import write_json, write_text
from alp_jax.core.names import choose
from alp_jax.scaling.laws.choose import choose_law
from alp_jax.scaling.laws.curves import Curve, Excluded, formula, is_derived, make_curves
from alp_jax.scaling.laws.fit import LEVEL, Fit, fit_law, shortage
from alp_jax.scaling.laws.forms import LAWS

AXES = {"data_model": ("samples_seen", "params"), "repeated": ("unique", "epochs")}  # law -> columns of a ledger
AXIS = ("pairs",)  # of every other law


def inputs_of(law: str, x: str | Sequence[str] | None) -> tuple[str, ...]:
    """The columns of a law's inputs: ``x``, or a ledger's columns where it is None.

    Raises:
      UserError: no such law, or it takes another number of inputs.
    """
    choose(law, LAWS, "law")
    if x is None:
        return AXES.get(law, AXIS)
    x = (x,) if isinstance(x, str) else tuple(x)
    wanted = LAWS[law].inputs
    if len(x) != len(wanted):
        names = f"{len(wanted)} columns, for {' and '.join(wanted)}" if len(wanted) > 1 else "1 column"
        raise UserError(f"--x {','.join(x)}: law {law} takes {names}")
    return x


def fit_groups(
    rows: list[dict[str, Any]],
    *,
    law: str = "power",
    x: str | Sequence[str] | None = None,
    y: str = "error",
    group: Iterable[str] | None = None,
    replicas: int = 200,
    seed: int = 0,
) -> tuple[dict[str, Any], list[tuple[Curve, Fit]]]:
    """Fits every group of ``rows``.

    Args:
      law: a key of ``LAWS``. x: the columns of its inputs. y, group: as ``make_curves`` takes them.
      replicas: of each kind of bootstrap. seed: of the bootstrap; training seeds are the column ``seed``.

    Returns:
      ``settings``, ``fits`` (``group`` and the fields of ``Fit``), ``excluded`` (reason, count, examples); the fits.

    Raises:
      UserError: as ``make_curves``, an unknown law, or nothing can be fitted.
    """
    axes = inputs_of(law, x)
    curves, excluded = make_curves(rows, axes, y, group)
    fitted = fit_curves(curves, law, axes, excluded, replicas, seed)
    fits = [
        {"group": curve.group, **fit.to_dict(), "warnings": fit.warnings + _gaps(curve, curves, axes)}
        for curve, fit in fitted
    ]
    settings = {
        "law": law,
        "formula": LAWS[law].formula,
        "x": list(axes),
        "y": formula(rows) if is_derived(y, rows[0]) else y,
        "group": list(curves[0].group),
        "replicas": replicas,
        "seed": seed,
        "loss": "sum of Huber(1e-3) + 5e-4 * square over residuals of log y",
        "level": LEVEL,
        "interval": "envelope of case and parametric (log-normal) bootstrap percentiles",
    }
    return {"settings": settings, "fits": fits, "excluded": excluded.to_list()}, fitted


def choose_table(
    rows: list[dict[str, Any]],
    *,
    x: str | Sequence[str] | None = None,
    y: str = "error",
    group: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Picks a law for every curve: of those with as many inputs as ``x``, by how well they predict its top rung.

    Returns:
      ``choices`` (``group`` and the fields of ``Choice``) and ``excluded``.

    Raises:
      UserError: as ``make_curves``, no law takes that many inputs, or nothing is left.
    """
    axes = AXIS if x is None else (x,) if isinstance(x, str) else tuple(x)
    most = max(len(law.inputs) for law in LAWS.values())
    if len(axes) > most:
        raise UserError(f"--x {','.join(axes)}: no law takes more than {most} columns")
    curves, excluded = make_curves(rows, axes, y, group)
    if not curves:
        raise UserError(f"nothing can be fitted: {excluded}")
    chosen = [(curve.group, choose_law(curve.x, curve.y, seeds=curve.seeds)) for curve in curves]
    choices = [{"group": group, **dataclasses.asdict(choice)} for group, choice in chosen]
    return {"x": list(axes), "choices": choices, "excluded": excluded.to_list()}


def fit_curves(
    curves: list[Curve], law: str, axes: tuple[str, ...], excluded: Excluded, replicas: int, seed: int
) -> list[tuple[Curve, Fit]]:
    """Every curve that has enough rungs, with its fit; the rows of others go to ``excluded``.

    Every curve has its own bootstrap seed: with one seed for all, errors of their replicas would cancel in ratios.

    Raises:
      UserError: no curve has enough rungs.
    """
    fitted = []
    for k, curve in enumerate(curves):
        lacking = shortage(law, curve.x, axes)
        if lacking:
            excluded.add_curve(curve, f"group with {lacking}")
        else:
            fit = fit_law(law, curve.x, curve.y, replicas=replicas, seed=[seed, k], seeds=curve.seeds)
            fitted.append((curve, fit))
    if not fitted:
        raise UserError(f"nothing can be fitted: {excluded}")
    return fitted


def write_fits(result: dict[str, Any], out: str | pathlib.Path) -> list[pathlib.Path]:
    """Writes ``fits.json`` (everything) and ``fits.csv`` (a line per curve) into ``out``."""
    out = pathlib.Path(out)
    write_json(out / "fits.json", result)
    group, params = result["settings"]["group"], LAWS[result["settings"]["law"]].params
    header = [*group, *(name + end for name in params for end in ("", "_low", "_high"))]
    header += ["residual_sd", "seed_sd", "runs", "rungs", "warnings"]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    for fit in result["fits"]:
        row = [fit["group"][column] for column in group]
        row += [number for name in params for number in (fit["params"][name], *fit["interval"][name])]
        row += [fit[name] for name in ("residual_sd", "seed_sd", "runs", "rungs")] + ["; ".join(fit["warnings"])]
        writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in row)
    write_text(out / "fits.csv", table.getvalue())
    return [out / "fits.json", out / "fits.csv"]


def fit_lines(result: dict[str, Any], problems: list[str]) -> list[str]:
    """The result of ``fit_groups`` as lines to print, and what was left out, with the ``problems`` of the table."""

    def shown(name: str, fit: dict[str, Any]) -> str:
        low, high = fit["interval"][name]
        return f"{name} {fit['params'][name]:.3g} [{low:.3g}, {high:.3g}]"

    fits = result["fits"]
    lines = [
        f"{' '.join(fit['group'].values())}: {'  '.join(shown(name, fit) for name in fit['params'])}  "
        f"{fit['runs']} runs, {fit['rungs']} rungs"
        for fit in fits
    ]
    warnings = Counter(warning for fit in fits for warning in fit["warnings"]).most_common()
    lines += [f"warning: {count} of {len(fits)} curves: {warning}" for warning, count in warnings]
    return lines + _left_out(result, problems)


def choice_lines(result: dict[str, Any], problems: list[str]) -> list[str]:
    """The result of ``choose_table`` as lines to print, likewise."""
    lines = []
    for one in result["choices"]:
        errors = "  ".join(f"{law} {100 * error:.2f}%" for law, error in one["errors"].items())
        lines.append(f"{' '.join(one['group'].values())}: {one['law'] or 'no law can be held out'}  {errors}")
        notes = [*(f"{law}: {why}" for law, why in one["refused"].items()), *one["warnings"]]
        lines += [f"  {note}" for note in notes]
    return lines + _left_out(result, problems)


def _left_out(result: dict[str, Any], problems: list[str]) -> list[str]:
    rows = [f"{one['count']} rows: {one['reason']}, such as {one['examples'][0]}" for one in result["excluded"]]
    return [f"left out: {reason}" for reason in rows + problems]


def _gaps(curve: Curve, curves: list[Curve], axes: tuple[str, ...]) -> list[str]:
    """A warning where other curves of the same task have rungs that this one lacks."""
    if axes != AXIS:
        return []
    same = ("task", "pooling", "metric")
    others = [c for c in curves if all(c.group.get(k) == curve.group.get(k) for k in same)]
    lacking = np.setdiff1d(np.concatenate([c.x[:, 0] for c in others]), curve.x[:, 0])
    if not len(lacking):
        return []
    return [f"no usable run at pairs {', '.join(f'{n:.0f}' for n in lacking)}, which other curves of the task have"]
