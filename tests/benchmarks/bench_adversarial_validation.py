"""Time and memory of split.py on 1,000,000 × 50 rows and on a tenth of it.

They grow linearly, and stay within 60 s and 4 GB on 2 cores.

Run: python tests/benchmarks/bench_adversarial_validation.py
     (writes about 1.1 GB to a temporary folder)
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

SCRIPT = Path(__file__).resolve().parents[2] / "adversarial_validation" / "split.py"


def write_table(
    path: Path, rows: int, columns: int, shift: float, random: np.random.Generator
) -> None:
    """Numbers with five digits, the first five columns shifted, and a text of ten levels."""
    for start in range(0, rows, 100_000):
        x = random.standard_normal((min(100_000, rows - start), columns - 1))
        x[:, :5] += shift
        frame = pd.DataFrame(x, columns=[f"c{j}" for j in range(columns - 1)])
        frame["text"] = random.choice([f"level{k}" for k in range(10)], len(frame))
        frame.to_csv(
            path, index=False, float_format="%.4f", mode="w" if not start else "a", header=not start
        )


def measure(rows: int, columns: int, folder: Path) -> dict:
    train, test = folder / "train.csv", folder / "test.csv"
    random = np.random.default_rng(0)
    write_table(train, rows, columns, 0.0, random)
    write_table(test, rows // 4, columns, 0.3, random)
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, str(SCRIPT), str(train), str(test), "--out-dir", str(folder)],
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "rows": rows,
        "columns": columns,
        "wall_s": round(time.perf_counter() - started, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_gb": round(after.ru_maxrss / 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--columns", type=int, default=50)
    args = parser.parse_args()
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(rows, args.columns, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
