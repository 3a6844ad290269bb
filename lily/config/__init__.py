"""Presets: YAML files in configs/, checked and typed."""
