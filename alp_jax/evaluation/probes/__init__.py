"""Labels read off a frozen encoder by linear probes, by attention probes and by text prompts.

Dimensions: G settings fitted at once, S seeds, R steps of a round, H heads, K and V widths of keys and values,
F = H * V, P prompts.
"""
