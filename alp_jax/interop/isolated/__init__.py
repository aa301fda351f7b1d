"""Scripts that run in a Python process of their own, where nothing of this project or of JAX can be imported."""
