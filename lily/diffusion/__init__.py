"""Diffusion over callables: noise, samplers, guidance; no mel, no checkpoint, no progress bar."""
