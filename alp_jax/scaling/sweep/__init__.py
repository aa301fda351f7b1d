"""A grid of runs: planned, driven here or under a scheduler, gathered into a ledger."""
