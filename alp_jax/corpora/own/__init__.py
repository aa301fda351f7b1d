"""People's own data: tables in the forms in which they are written, and containers with the audio inside."""
