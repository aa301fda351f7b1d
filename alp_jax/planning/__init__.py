"""What a run would need on devices that are not there: compiled for them, never executed."""
