"""Publish a model and a Space on the Hub."""
