"""Checks of this project against folders of reference vectors: one small file per kind of case."""
