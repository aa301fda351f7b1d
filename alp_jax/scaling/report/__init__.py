"""The report of a sweep: its sections, figures and pages."""
