"""Neural networks as small modules behind plain (init, apply) functions on nested dictionaries."""
