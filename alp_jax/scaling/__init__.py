"""Many runs together: sweeps, their ledger of results, scaling laws fitted to it, and the report.

Suffixes that give the dimensions of arrays are listed in ``laws`` and ``questions``; nothing else here uses any.
"""
