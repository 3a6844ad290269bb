"""Audio files: decode, resample, write."""
