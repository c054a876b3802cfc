"""All numbers of the report: tables, statistics, curves, and what the strategies did."""
