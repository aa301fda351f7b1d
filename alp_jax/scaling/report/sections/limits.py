"""What a sweep cannot tell, from its own numbers."""

from alp_jax.config import format_count
from alp_jax.core.metrics import is_headline
from alp_jax.scaling import glossary
from alp_jax.scaling.report.study import Study


def context(study: Study) -> dict[str, list[str]]:
    """The limits that apply to this study, as sentences."""
    rungs, seeds, stats = study.rungs, study.seeds, study.stats
    limits = []
    if rungs:
        span = f"{format_count(rungs[0])} to {format_count(rungs[-1])}" if len(rungs) > 1 else format_count(rungs[0])
        limits.append(
            f"What happens outside {span} pairs. Nothing here is extrapolated; a law is drawn only where runs are."
        )
    if len(rungs) < 4:
        limits.append(
            f"The exponent of any curve on its own. {len(rungs)} rungs leave exponent and asymptote confounded: many "
            "pairs of them fit equally well."
        )
    if len(seeds) < 5:
        limits.append(
            f"Small differences. With {len(seeds)} seed{'s' * (len(seeds) != 1)} per point the spread between runs is "
            "hardly known; intervals rest mostly on the test clips."
        )
    lengths = sorted({(row["pairs"], row["steps"]) for row in study.rows if row["steps"]})
    if len({steps for _, steps in lengths}) > 1:
        spans = ", ".join(f"{steps:,} at {format_count(pairs)}" for pairs, steps in lengths)
        limits.append(
            f"What more pairs do on their own. Runs also differ in steps ({spans}), so a curve shows more data and "
            "longer training together."
        )
    limits.append(
        "Which objective is better at scale. At a rung the objectives saw the same steps, not the same computation "
        "tuned for each; learning rate and batch were not tuned per objective or per rung."
    )
    hours = f"{stats['hours']:.1f} hours in all" if stats else "a small corpus"
    limits.append(
        f"Anything about audio in general. The corpus is {hours}; with few packages, kits, voices and tracks the "
        "groups carry their own sound, so a class may be told from its group's recording conditions."
    )
    limits.append(
        "How free text would fare. Part of the captions come from templates over metadata, so that retrieval rewards "
        "recovering the template's facts, and text of that kind is easier than what people write."
    )
    alone = [glossary.task_title(p.task) for p in study.panels if p.untrained is None and is_headline(p.metric)]
    if alone:
        limits.append(f"Gain over random parameters on {', '.join(dict.fromkeys(alone))}: no untrained run has it.")
    return {"limits": limits}
