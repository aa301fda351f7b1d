"""The account of a data set as text: the lines that ``alp data build`` and ``alp data merge`` print."""

import pathlib
from collections.abc import Iterator

_NAMES_SHOWN = 3


def accounting_lines(out: str, accounting: dict, names_in: str = "") -> Iterator[str]:
    """Clips in use by split and source, and clips that are not, by reason.

    ``names_in`` says where all the names are listed; "": in the data set ``out``.
    """
    yield f"{out}: {accounting['usable']} of {accounting['expected']} clips"
    rows = [(split, row) for split, row in accounting["splits"].items()]
    for source, entry in sorted(accounting["sources"].items()):
        rows += [(f"  {source} {split}", row) for split, row in entry["splits"].items()]
    yield f"  {'':<28}{'clips':>8}{'hours':>9}{'captions':>10}"
    for label, row in rows:
        yield f"  {label:<28}{row['clips']:>8}{row['hours']:>9.3f}{row['captions']:>10}"
    bare = accounting.get("without_captions", 0)  # older data sets do not have it
    if bare and accounting["splits"]["train"]["captions"]:
        yield f"without a caption, and so not among the training pairs: {bare} training clips"
    for reason, count in sorted(accounting["excluded"].items()):
        yield f"stored but not used: {count} {reason}"
    for key, text in (("clipped", "reach full scale"), ("shorter_than_stated", "end before their stated end")):
        count = sum(entry["measured"][key] for entry in accounting["sources"].values() if "measured" in entry)
        if count:
            yield f"stored as they are: {count} that {text}"
    for note, entry in sorted(accounting.get("notes", {}).items()):
        yield f"stored and noted: {entry['count']} {note}: {entry['meaning']}: {_first(entry, entry['clips'])}"
    if accounting["unusable"]:
        yield f"unusable: {accounting['unusable']} (all names in {names_in or pathlib.Path(out) / 'dataset.json'})"
    for reason, entry in sorted(accounting["reasons"].items(), key=lambda item: -item[1]["count"]):
        names = [_short(name) for name in entry["clips"][:_NAMES_SHOWN]]
        yield f"  {entry['count']:>6} {reason}: {entry['meaning']}: {_first(entry, names)}"


def part_line(name: str, told: dict) -> str:
    """What ``build.written`` tells of a part."""
    others = f"{told['left']} shards of other parts are not there yet" if told["left"] else "no other shard is missing"
    return f"{name}, part {told['part']}: {told['shards']} shards, {told['written']} of them written now; {others}"


def preview_lines(preview: dict) -> Iterator[str]:
    """What ``build.preview`` reports besides the account."""
    for source, count in preview["without_length"].items():
        yield f"hours leave out {count} clips of {source}, whose metadata does not state their length"
    for reason, count in sorted(preview["dropped_captions"].items()):
        yield f"captions that the filter drops: {count} {reason}"


def _first(entry: dict, names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if entry["count"] > _NAMES_SHOWN else "")


def _short(name: str) -> str:
    """``ID (PATH): DETAIL`` of an account without the path."""
    clip, _, rest = name.partition(" (")
    _, mark, detail = rest.rpartition("): ")
    return f"{clip}: {detail}" if mark else clip
