"""Model folders, the Hub, and AudioSR checkpoints."""
