"""Opens runs.* as they are with DuckDB and compares them with summary.json.

Usage: exports.py SUMMARY RUNS.parquet RUNS.csv RUNS.jsonl
"""

import json
import sys

import duckdb

summary = json.load(open(sys.argv[1]))
readers = [
    f"read_parquet('{sys.argv[2]}')",
    f"read_csv('{sys.argv[3]}')",
    f"read_json('{sys.argv[4]}')",
]


def ask(sql, reader):
    return duckdb.sql(sql.replace("RUNS", reader)).fetchall()


def number(x):
    return float(x) if isinstance(x, str) else x


for reader in readers:
    totals = summary["totals"]
    assert ask("SELECT count(*) FROM RUNS", reader) == [(totals["planned"],)], reader
    by_status = dict(ask("SELECT status, count(*) FROM RUNS GROUP BY status", reader))
    for status in ["recorded", "failed", "cancelled", "missing"]:
        assert by_status.get(status, 0) == totals[status], (reader, status, by_status)
    verdicts = dict(
        ask("SELECT verdict, count(*) FROM RUNS WHERE status = 'recorded' GROUP BY verdict", reader)
    )
    expected = {name: n for name, n in totals["verdicts"].items() if n > 0}
    assert verdicts == expected, (reader, verdicts, expected)
    [(refuted,)] = ask("SELECT coalesce(sum(refuted), 0) FROM RUNS", reader)
    assert refuted == totals["refuted"]
    # Each cell's worst minimum, bit for bit.
    worst = dict(ask("SELECT cell, max(value) FROM RUNS WHERE certified GROUP BY cell", reader))
    least = dict(ask("SELECT cell, min(value) FROM RUNS WHERE certified GROUP BY cell", reader))
    counts = dict(
        ask(
            "SELECT cell, count(*) FROM RUNS "
            "WHERE status = 'recorded' AND found_by = 'grid' GROUP BY cell",
            reader,
        )
    )
    for index, cell in enumerate(summary["cells"]):
        if cell["worst"] is None:
            assert index not in worst
            continue
        assert worst[index] == cell["worst"]["value"], (reader, index)
        assert least[index] == cell["best"]["value"], (reader, index)
        assert counts[index] == cell["runs"]
        [(excess, gap, gradient)] = ask(
            "SELECT excess, induced_gap, gradient_norm FROM RUNS "
            f"WHERE task = '{cell['worst']['task']}'",
            reader,
        )
        assert excess == number(cell["worst"]["excess"])
        assert gap == number(cell["worst"]["induced_gap"])
        assert gradient == number(cell["worst"]["gradient_norm"])

# Axes are columns of their own types, named as the grid names them.
types = dict((row[0], row[1]) for row in ask("DESCRIBE SELECT * FROM RUNS", readers[0]))
assert types["depth"] == "BIGINT" and types["activation"] == "VARCHAR", types
assert types["seed"] == "UBIGINT" and types["certified"] == "BOOLEAN", types
assert types["regularizer.predictor_ridge"] == "DOUBLE", types
assert types["telemetry_recorded_at"].startswith("TIMESTAMP"), types
print("agrees with the summary:", totals["planned"], "runs")
