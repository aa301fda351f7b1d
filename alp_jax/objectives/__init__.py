"""Losses and metrics as pure functions of model outputs and batches."""
