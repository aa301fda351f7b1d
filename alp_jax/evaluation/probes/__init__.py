"""Labels read off a frozen encoder: linear, by attention, by words.

Dimensions: G settings fitted at once, S seeds, H heads, K and V widths of keys and values, F = H * V, P prompts.
"""
