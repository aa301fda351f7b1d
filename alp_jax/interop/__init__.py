"""Checkpoints to and from PyTorch, safetensors, ONNX and other toolboxes, each checked to hold or compute the same.

reading: other toolboxes' files, of which nothing is trusted before it is checked. formats: what others call our
parameters and settings. imported.py: another toolbox's model as a run folder. writing: exports. torch_module: the
PyTorch encoder that exports contain. isolated: scripts that run where JAX cannot be imported.

Suffixes name axes: B clips of a batch, S samples, T frames, F mel bins, L tokens, D features of a frame or token, E
features in the space shared with text, N clips of all batches, H heads, P features of a position, C channels, K taps.
"""
