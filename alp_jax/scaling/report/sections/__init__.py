"""The sections of a report: each is a file with ``context(study)`` and templates of its name; see ``page.SECTIONS``."""
