"""Write the day's report to reports/<day>.md: the day is the slot's, so that a rerun agrees."""

import csv
import os
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from make_sales import write

SALES = Path("demo_data/sales.csv")


def totals() -> dict[str, float]:
    """Return the revenue of each region."""
    if not SALES.exists():
        write(SALES)
    revenue: dict[str, float] = defaultdict(float)
    with SALES.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            revenue[row["region"]] += float(row["revenue"])
    return dict(revenue)


def main() -> None:
    slot = os.environ.get("JOBKIT_SCHEDULED_FOR")
    day = slot[:10] if slot else datetime.now(UTC).date().isoformat()
    lines = [f"# Sales, as of {day}", "", "| region | revenue |", "|---|---:|"]
    lines += [f"| {region} | {amount:,.2f} |" for region, amount in sorted(totals().items())]
    report = Path("reports") / f"{day}.md"
    report.parent.mkdir(exist_ok=True)
    draft = report.with_suffix(f".{os.getpid()}.part")
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    draft.replace(report)
    print("\n".join(lines))
    print(f"\nWrote {report}.")


if __name__ == "__main__":
    main()
