"""One query by DuckDB on one thread; reads what to do from standard input, writes what it measured to standard output.

The columns and their types are given, so nothing is sniffed; the result is consumed as Arrow record batches.
"""
import json
import resource
import sys
import time

import duckdb

todo = json.load(sys.stdin)
connection = duckdb.connect()
connection.execute("SET threads = 1")
# It would be written to standard output.
connection.execute("SET enable_progress_bar = false")
# Karez's windows give their rows in no order either.
connection.execute("SET preserve_insertion_order = false")
columns = ", ".join(f"{name}: '{type}'" for name, type in todo["columns"])
connection.execute(
    f"CREATE VIEW bids AS SELECT * FROM read_ndjson('{todo['file']}', columns = {{{columns}}}, auto_detect = false)"
)
wall, cpu = time.perf_counter(), time.process_time()
rows_out = 0
for batch in connection.sql(todo["sql"]).to_arrow_reader(122880):
    rows_out += batch.num_rows
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
json.dump(
    {
        "rows_out": rows_out,
        "cpu_s": cpu,
        "wall_s": wall,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    },
    sys.stdout,
)
