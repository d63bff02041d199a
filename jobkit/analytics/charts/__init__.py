"""Charts as SVG made by hand: small, readable without colour, for notebooks and the portal.

Each function returns a `Chart`. Colours follow the reader's light or dark scheme; a page may set
`--jk-ink`, `--jk-grid` and `--jk-1` to `--jk-6`.
"""

from jobkit.analytics.charts.categories import bars, cells
from jobkit.analytics.charts.chart import Chart
from jobkit.analytics.charts.points import Point, points
from jobkit.analytics.charts.series import histogram, line, stacked

__all__ = ["Chart", "Point", "bars", "cells", "histogram", "line", "points", "stacked"]
