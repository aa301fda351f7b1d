"""Questions about sounds, answered in words by a frozen language model behind a small trained adapter.

Dimensions: N answers, B questions of a batch, T frames of width D, P positions of a sound, W width of the language
model, L positions of a dialogue, A tokens of a reply, V vocabulary, K lengths of a batch of files, S orders in which a
judge reads two answers.
"""
