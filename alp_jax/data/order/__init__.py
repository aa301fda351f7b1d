"""Which clips, crops and captions are in batch k."""
