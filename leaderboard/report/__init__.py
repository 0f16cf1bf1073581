"""One self-contained HTML file from boards: ``write(Leaderboard(entries), "report.html")``."""

from leaderboard.report.material import BoardMaterial, Material
from leaderboard.report.page import Written, html, write

__all__ = ["BoardMaterial", "Material", "Written", "html", "write"]
