"""Questions about sounds, answered in words by a frozen language model behind a small trained adapter.

Dimensions: B questions of a batch, T frames of width D, P positions of a sound, W width of the language model, L
positions of a dialogue, A tokens of a reply, V vocabulary.
"""
