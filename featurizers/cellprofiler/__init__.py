"""CellProfiler's measurements of cells, as kernels in process and as a featurizer."""
