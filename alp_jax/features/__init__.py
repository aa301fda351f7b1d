"""Log-mel features and SpecAugment, on device."""
