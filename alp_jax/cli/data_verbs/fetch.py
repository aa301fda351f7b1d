"""``alp data fetch``: downloads a corpus that needs no account."""

import argparse
from collections.abc import Callable

from alp_jax.core.paths import cache_dir


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    fetch = action("fetch", "download and unpack a corpus", "alp data fetch mini --tier s")
    fetch.add_argument("corpus", metavar="CORPUS", help="mini, or another one that can be fetched")
    add_tier(fetch)


def add_tier(parser: argparse.ArgumentParser) -> None:
    """Adds the options for how much of the mini corpus is meant and where it is."""
    parser.add_argument("--tier", choices=("s", "m", "l"), default="s", help="how much of the mini corpus (default: s)")
    parser.add_argument(
        "--cache", metavar="DIR", default=str(cache_dir()), help="where packages go (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> dict:
    from alp_jax.corpora import registry

    packages = registry.fetch(args.corpus, args.cache, args.tier)
    missing = sorted(name for name, entry in packages.items() if "missing" in entry)
    if not args.json:
        there = f"{len(packages) - len(missing)} of {len(packages)} packages in {args.cache}"
        print(f"{args.corpus} corpus, tier {args.tier}: {there}")
        for name in missing:
            print(f"  missing {name}: {packages[name]['missing']}")
        build = f"alp data build {args.corpus} --tier {args.tier} --cache {args.cache} --out data/{args.corpus}"
        print(f"next: {build}")
    return {"cache": str(args.cache), "tier": args.tier, "packages": packages, "missing": missing}
