"""The PyTorch encoder in parts; ``alp_jax.interop.writing.export`` joins them into the one file that is handed out."""
