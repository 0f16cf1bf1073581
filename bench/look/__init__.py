"""Looking at plates and wells: values over the plate, contact sheets, masks on their pixels, as PNG."""

from bench.look.heatmap import heatmap
from bench.look.section import is_section, section
from bench.look.sheet import plate_sheet, well_sheet
from bench.look.values import values

__all__ = ["heatmap", "is_section", "plate_sheet", "section", "values", "well_sheet"]
