"""What all scripts do alike: flags, claims, figures, results, errors. Equal in every folder."""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notices about itself
FOLDER = Path(__file__).resolve().parent
JSON = {"indent": 1, "ensure_ascii": False, "default": lambda x: getattr(x, "item", x.__str__)()}
LANGUAGE = "zh" if os.environ.get("LANG", "").startswith("zh") else "en"
VERDICTS = {"en": ["holds", "does not hold", "not at this size", "not measured"]}
VERDICTS["zh"] = ["成立", "不成立", "规模不够，无法判断", "未测量"]


def between(low: float, high: float, kind: type = int):
    """The argparse type of a number from `low` to `high`."""

    def number(text: str):
        if not low <= kind(text) <= high:
            raise argparse.ArgumentTypeError(f"{text}: must lie in {low} … {high}")
        return kind(text)

    return number


SEED = {"type": between(0, 999_999_999), "default": 0, "help": "seed of every random draw"}
DATA_DIR = {"type": Path, "help": "where data lie (else KEXUE_DATA_DIR, else data/.cache)"}


def parse(flags) -> argparse.Namespace | None:
    """The command line of the script that defines `flags`; None if that file is only imported."""
    if flags.__module__ != "__main__":
        return None
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.description = sys.modules["__main__"].__doc__.splitlines()[0]
    flags(parser)
    parser.add_argument("--quick", action="store_true", help="under a minute; not results")
    parser.add_argument("--out-dir", type=Path, default=FOLDER / "outputs", help="for results")
    return parser.parse_args()


def subplots(rows: int = 1, columns: int = 1, height: float = 3.5, **options):
    """A Figure 8 inches wide and its axes; every figure of this repository begins here."""
    import matplotlib.figure

    matplotlib.rcParams.update({"font.size": 11, "axes.titlesize": 11, "legend.fontsize": 11})
    figure = matplotlib.figure.Figure(figsize=(8, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def claim(name: str, measured: dict, holds: bool | None) -> dict:
    """Say whether a claim holds, in the words of claims.json, which names what is measured."""
    claims = json.loads((FOLDER / "claims.json").read_text(encoding="utf-8"))
    wording = next(row for row in claims if row["id"] == name)
    verdict = VERDICTS[LANGUAGE][3 if holds is None else 0 if holds else 1 + ("needs" in wording)]
    parts = wording["measured"].items()
    numbers = [f"{part[LANGUAGE]} {format(measured[key], part['format'])}" for key, part in parts]
    print(f"{name} {verdict}: {wording['claim'][LANGUAGE]} | {'; '.join(numbers)}", flush=True)
    return {"id": name, "measured": measured, "holds": None if holds is None else bool(holds)}


def record(args: argparse.Namespace, seconds: float, metrics: dict, claims=(), figures=()) -> None:
    """Write <script>.json and the figures ({name: Figure}) to --out-dir."""
    for name, figure in dict(figures).items():
        figure.savefig(args.out_dir / f"{name}.png", dpi=150)
    used = [name for name in ("numpy", "scipy", "keras", "tensorflow") if name in sys.modules]
    results = {
        "config": {key: value for key, value in vars(args).items() if not key.endswith("_dir")},
        "versions": {name: sys.modules[name].__version__ for name in used},
        "device": f"{platform.machine()} × {os.cpu_count()}, Python {platform.python_version()}",
        "seconds": round(seconds, 1),
        "metrics": metrics,
        "claims": list(claims),
        "figures": [f"{name}.png" for name in figures],
    }
    path = args.out_dir / f"{Path(sys.argv[0]).stem}.json"
    path.with_suffix(".part").write_text(json.dumps(results, **JSON) + "\n", encoding="utf-8")
    os.replace(path.with_suffix(".part"), path)
    print(f"{'QUICK RUN, not results. ' * args.quick}Wrote {path} in {seconds:.1f} s")


def run(main, flags) -> None:
    """Run main(args) and record what it returns: (metrics, claims, figures), or None."""
    args, started = parse(flags), time.perf_counter()
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        found = main(args)
        if found:
            record(args, time.perf_counter() - started, *found)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
