"""Final models: fitted on all paired data of a run, saved as a folder, used on plates that have images
only.
"""
