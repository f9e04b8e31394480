"""Where the server of the benchmark listens."""

import os

HOST, PORT = "127.0.0.1", int(os.environ["BENCH_PORT"])
URL = f"redis://{HOST}:{PORT}/0"
QUEUE = "bench"
WORKS = "BENCH_MARKS" in os.environ  # a worker; else a producer, which leaves no marks
