"""A forecast as text: the lines that ``alp data plan`` prints for a rung."""

from collections.abc import Iterator

_COLUMNS = ("pairs", 12), ("hours", 11), ("of rung", 9), ("drawn", 9), ("epochs", 9), ("repeats", 9), ("runs out", 14)


def forecast_lines(name: str, rung: dict) -> Iterator[str]:
    """The result of ``forecast.forecast`` for the rung ``name``: the rung, its sources, its buckets."""
    per_epoch = rung["batches_per_epoch"]
    yield ""
    yield (
        f"{name}: {rung['pairs']:,} pairs, {rung['clips']:,} clips, {rung['hours']:,.1f} h; an epoch is "
        f"{per_epoch:,.1f} steps, the run {rung['steps'] / per_epoch:,.2f} epochs"
    )
    yield (
        f"  padding {rung['padding']:.1%} of the audio and {_share(rung['text_padding'])} of the text, "
        f"{_share(rung['waste'])} of what rows cost; cropped {rung['cropped']:.2%}; {len(rung['buckets'])} shapes to "
        f"compile; order {rung['fingerprint']}"
    )
    if len(rung["stages"]) > 1:
        yield f"  stages of the mixture start at steps {', '.join(f'{start:,}' for start in rung['stages'])}"
    yield f"  {'source':<24}" + "".join(f"{column:>{width}}" for column, width in _COLUMNS)
    for source, row in rung["sources"].items():
        out = "not in run" if row["runs_out"] is None else f"step {row['runs_out']:,}"
        yield (
            f"  {source:<24}{row['pairs']:>12,}{row['hours']:>11,.1f}{row['share']:>9.2%}{row['drawn']:>9.2%}"
            f"{row['epochs']:>9.2f}{row['repeats']:>9}{out:>14}"
        )
    yield (
        f"  {'bucket':<16}{'tokens':>8}{'clips':>12}{'batch':>11}{'of steps':>9}{'padding':>9}{'of text':>9}"
        f"{'of cost':>9}{'MB':>9}"
    )
    for row in rung["buckets"]:
        yield (
            f"  {row['seconds']:<16g}{row['tokens']:>8}{row['clips']:>12,}{row['batch']:>11}{row['steps_share']:>9.2%}"
            f"{row['padding']:>9.1%}{_share(row['text_padding']):>9}{_share(row['waste']):>9}{row['megabytes']:>9.1f}"
        )


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
