"""The report as one page: a self-contained HTML file that asks the network for nothing.

`page` puts it together, `show` sends it off. What it says comes from the same sheets, figures, verdict and captions as
every other output; `templates/` says how it looks.
"""

from __future__ import annotations

from reports.html.output import show
from reports.html.page import page

__all__ = ["page", "show"]
