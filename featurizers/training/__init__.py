"""One training loop for every learned entrant: batches, schedules, checkpoints, exact resume, data parallel.

Importing this package loads no torch; its rooms do.
"""
