"""Measure what the models do, against baselines that know nothing, with one pinned definition."""
