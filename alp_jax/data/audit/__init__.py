"""Which training clips are evaluation clips: by recording, by sound, by near-duplicate sound, by caption."""
