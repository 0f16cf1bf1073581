"""Single-cell tables that CellProfiler wrote, brought to one row per well.

Three layouts: a folder of CSV files (ExportToSpreadsheet; one set, or one per subfolder), a SQLite database
(ExportToDatabase, cytominer-database) and CytoTable's Parquet. Each reader streams image by image, so that
only the wells in progress are in memory.
"""

from bench.datasets.cells.model import COMPARTMENTS
from bench.datasets.cells.wells import AGGREGATES, CELL_COUNT, Collected, collect, is_cells, write_profiles

__all__ = ["AGGREGATES", "CELL_COUNT", "COMPARTMENTS", "Collected", "collect", "is_cells", "write_profiles"]
