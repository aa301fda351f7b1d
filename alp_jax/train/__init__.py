"""Training: one loop, one step, and the record that a run keeps of them.

Dimensions: B rows of a batch, S samples of a row, T frames of features, F mel bins, D channels, L tokens of a caption.
"""
