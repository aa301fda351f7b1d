"""Questions about sounds, answered in words by a frozen language model behind a small trained adapter."""
