"""Looking at plates and wells: values over the plate, contact sheets, masks on their pixels, as PNG."""

from bench.look.heatmap import heatmap
from bench.look.sheet import plate_sheet, well_sheet
from bench.look.values import values

__all__ = ["heatmap", "plate_sheet", "values", "well_sheet"]
