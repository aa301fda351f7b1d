"""Audits as text: the lines that ``alp data audit`` and ``alp data build`` print."""

from collections.abc import Iterator

from alp_jax.data.audit import planted, reach
from alp_jax.data.audit.kinds import LEAK_KINDS, SAME_RECORDING

_NAME = 28  # columns of a name


def audit_lines(summary: dict) -> Iterator[str]:
    """A table by source and kind, one by evaluation set, examples, and warnings."""
    total, width = sum(summary["clips"].values()), len(SAME_RECORDING) + 2
    state = f", {summary['out_of_use']} of them already out of use" if summary["out_of_use"] else ""
    yield f"{summary['data']}: {summary['leaks']} of {total} training clips are evaluation clips{state}"
    heads = f"{'clips':>10}" + "".join(f"{kind:>11}" for kind in LEAK_KINDS) + f"{'any':>11}{SAME_RECORDING:>{width}}"
    yield f"  {'source':<{_NAME}}{heads}"
    for source, entry in summary["sources"].items():
        counts = "".join(f"{entry['kinds'][kind]['clips']:>11}" for kind in LEAK_KINDS)
        yield (
            f"  {source:<{_NAME}}{entry['clips']:>10}{counts}{entry['leaks']:>11}"
            f"{entry[SAME_RECORDING]['clips']:>{width}}"
        )
    yield f"  {'evaluation set':<{_NAME}}{heads}"
    for one in summary["sets"]:
        counts = "".join(f"{one['found'][kind]:>11}" for kind in LEAK_KINDS)
        name = one["name"] if len(one["name"]) < _NAME else f"...{one['name'][-24:]}"
        yield f"  {name:<{_NAME}}{one['clips']:>10}{counts}{one['found_by_any']:>11}{one[SAME_RECORDING]:>{width}}"
        if not one["with_audio"]:
            yield "    has no audio here: compared by recording and caption only"
        if one["rejected"]:
            yield f"    rows not used: {', '.join(f'{n} {reason}' for reason, n in one['rejected'].items())}"
    for source, entry in summary["sources"].items():
        for kind in LEAK_KINDS:
            for example in entry["kinds"][kind]["examples"][:1]:
                yield f"  e.g. {kind}: {source} {example['train']} is {example['evaluation']}"
    elsewhere = [entry[SAME_RECORDING] for entry in summary["sources"].values()]
    if count := sum(entry["clips"] for entry in elsewhere):
        first = next(entry["examples"][0] for entry in elsewhere if entry["clips"])
        yield (
            f"{SAME_RECORDING}: {count} training clips share a recording with an evaluation clip, at a different or "
            f"unknown position; they are not leaks and stay in use, such as {first['train']} and {first['evaluation']}"
        )
    for side, count in summary["without_length"].items():
        if count:
            yield f"{count} {side} clips do not state their length: they are taken to last to the end of the recording"
    if summary["unspecific_captions"]:
        yield f"{summary['unspecific_captions']} more training clips share a caption that says too little about a clip"
    if any(one["with_audio"] for one in summary["sets"]):
        yield from reach.reach_lines()
    yield from (f"warning: {line}" for line in summary["warnings"])


def planted_lines(data: str, result: dict) -> Iterator[str]:
    """A row for every way of planting and one for the training clips themselves."""
    with_audio = any("long" in row for row in result["planted"].values())
    yield f"{data}: training clips found by 'alp data audit'"
    columns = ("clips", "found", "right", *LEAK_KINDS, *(("long", "long_found") if with_audio else ()))
    yield f"  {'':<12}" + "".join(f"{name:>11}" for name in columns)
    for name, row in (*result["planted"].items(), ("the others", result["others"])):
        yield f"  {name:<12}" + "".join(f"{row.get(key, ''):>11}" for key in columns)
    yield "right: found together with the clip it was made from"
    yield f"long: clips of {planted.LONG_S:g} s and more" if with_audio else "no audio here"
    yield from (f"warning: {line}" for line in result["warnings"])
