"""Sound event detection on frozen frames: mixtures with exact onsets, a frame probe, PSDS."""
