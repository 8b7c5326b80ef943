"""Sums the third column of a table by the second."""

import csv
import sys
from collections import defaultdict

totals: dict[str, int] = defaultdict(int)
with open(sys.argv[1], newline="") as file:
    for row in csv.DictReader(file):
        totals[row["colour"]] += int(row["count"])
for colour, count in sorted(totals.items()):
    print(f"{colour:>8} {count:4d}")
print(f"{sum(totals.values())} in all", file=sys.stderr)
