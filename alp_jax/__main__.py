"""``python -m alp_jax`` is the console script ``alp``."""

from alp_jax.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
