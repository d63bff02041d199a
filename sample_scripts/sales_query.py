"""Ask DuckDB which region sold best in each quarter, straight from a CSV file."""

import sys
from pathlib import Path

from make_sales import write

try:
    import duckdb
except ModuleNotFoundError:
    sys.exit("This script needs DuckDB. Install it: pip install 'jobkit[analytics]'")

SALES = Path("demo_data/sales.csv")
QUERY = """
    WITH sold AS (
        SELECT quarter(day) AS quarter, region, sum(revenue)::INTEGER AS revenue
        FROM read_csv(?)
        GROUP BY ALL
    )
    SELECT quarter, arg_max(region, revenue), max(revenue)
    FROM sold
    GROUP BY quarter
    ORDER BY quarter
"""

if not SALES.exists():
    print(f"{SALES} is not there yet; writing it ({write(SALES):,} rows).")
print("quarter  best region  revenue")
for quarter, region, revenue in duckdb.execute(QUERY, [str(SALES)]).fetchall():
    print(f"Q{quarter}       {region:11}  {revenue:>7,}")
