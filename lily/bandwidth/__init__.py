"""Find where the bandwidth of a recording ends."""
