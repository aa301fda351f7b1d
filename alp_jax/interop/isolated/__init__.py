"""Scripts that run in a separate Python process, where neither this project nor JAX can be imported."""
