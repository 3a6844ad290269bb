"""Signals: files to samples and back, rates, filters, bandwidth, chunks, splices, degradations.

Signals are float32 tensors (C, T) with a nominal range of [-1, 1]. Nothing here knows a network, a
checkpoint or a device: import the module you need, this file imports none of them.
"""
