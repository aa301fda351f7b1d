"""Labels read off a frozen encoder by linear probes, by attention probes and by text prompts.

Dimensions: G settings fitted at once, S seeds (in ``_round`` steps), H heads, K and V widths of keys and values,
F = H * V, P prompts.
"""
