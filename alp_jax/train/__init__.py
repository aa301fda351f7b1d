"""The step, the loop, checkpoints and run folders."""
