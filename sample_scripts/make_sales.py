"""Write a year of made-up sales to demo_data/sales.csv; the same ones each time.

The other samples that need the file call `write` themselves when it is not there.
"""

import csv
import os
import random
from datetime import date, timedelta
from pathlib import Path

REGIONS = ("north", "south", "east", "west")
PRODUCTS = {"tea": 4.5, "coffee": 6.0, "cocoa": 5.25}


def write(path: Path, days: int = 365) -> int:
    """Write the file whole or not at all; return its number of rows.

    Several jobs may do it at once: each has a draft of its own, and the last one stays.
    """
    dice = random.Random(2026)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.part")
    rows = 0
    with draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("day", "region", "product", "units", "revenue"))
        for number in range(days):
            day = date(2025, 1, 1) + timedelta(days=number)
            for region in REGIONS:
                for product, price in PRODUCTS.items():
                    units = max(0, round(dice.gauss(40, 12)))
                    table.writerow((day, region, product, units, round(units * price, 2)))
                    rows += 1
    draft.replace(path)
    return rows


if __name__ == "__main__":
    target = Path("demo_data/sales.csv")
    print(f"Wrote {write(target):,} rows to {target}.")
