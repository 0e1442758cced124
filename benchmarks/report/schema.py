"""What a report is: the version of its form, and its names on the disk."""

from __future__ import annotations

from typing import Any

SCHEMA_VERSION = 1
KIND = "jisu comparison"
JSON, MARKDOWN, HTML, JUNIT = "report.json", "report.md", "report.html", "junit.xml"

Report = dict[str, Any]
