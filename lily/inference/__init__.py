"""The inference engine: analyze, read the context, generate, write."""
