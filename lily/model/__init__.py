"""The networks, one a file; a network takes a config and knows no file, device or checkpoint."""
