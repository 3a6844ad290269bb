"""What an output kept of its input: metadata, null test, true peak, seam score."""
