"""The flags that select a configuration; ``alp_jax.config.flags`` resolves them."""

import argparse

from alp_jax.config.settings_help import settings_help

HELP = "config file and its arguments, FILE.py:key=value,...; any setting is a flag too: --config.optim.lr=0.01"


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` and ``--help_settings``; ``--config.key=value`` flags arrive in ``args.overrides``."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARGS]", help=f"{HELP} (--help_settings lists them)")
    parser.add_argument(
        "--help_settings",
        action=_HelpSettings,
        help="print every setting with its default, range and meaning, and exit",
    )


class _HelpSettings(argparse.Action):
    """Prints the table of settings in place of running the verb."""

    def __init__(self, **options):
        super().__init__(nargs=0, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        print(settings_help())
        parser.exit()
