"""Many recordings: what is to be done, who does it, and a manifest that says what became of each.

A plan lists the inputs and names their outputs; workers fill them in, sharing batches; the driver
alone writes the manifest. On one machine or on a cluster, only who works differs.
"""
