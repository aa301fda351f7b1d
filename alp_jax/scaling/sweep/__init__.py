"""A grid of runs: planned, run here or by a scheduler, and gathered into a ledger."""
