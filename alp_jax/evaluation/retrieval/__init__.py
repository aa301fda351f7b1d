"""Captions found by sounds and sounds by captions."""
