"""Checkpoints to and from PyTorch, safetensors, ONNX and other toolboxes, each with proof that numbers are equal.

reading: files of others, nothing in them believed before it is checked. formats: what others call our parameters and
settings. imported.py: a model of others as a run folder. writing: exports. torch_module: the PyTorch encoder that is
handed out. isolated: scripts that run where JAX cannot be imported.

Suffixes name axes: B clips, S samples, T frames, F mel bins, L tokens, D numbers of a frame or token, E of the space
shared with text, N clips one after another, H heads, P numbers of a position, C channels, K taps.
"""
