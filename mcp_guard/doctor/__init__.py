"""What is wrong with a set-up, and what mends it: read only, bounded, and never a secret in what it says."""
