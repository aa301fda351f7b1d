"""Many runs: sweeps, the ledger, fits and the report."""
