"""Exports with proof that both sides compute the same."""
