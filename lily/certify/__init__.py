"""Measure what an output keeps of its input: null test, level, true peak, seams."""
