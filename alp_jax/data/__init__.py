"""Clips to TFRecord shards, and shards to global batches that are a pure function of the step."""
