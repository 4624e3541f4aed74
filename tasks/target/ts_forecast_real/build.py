"""Forecasting of real series: the next two values of eight that were measured one after another.

`python tasks/target/ts_forecast_real/build.py` writes train.jsonl, validation.jsonl and items.jsonl
(the test split) from facts.jsonl (a tracked table); `--facts` rebuilds it from the data sets
that statsmodels ships, all in the public domain. Splits follow time: training windows end before
validation windows begin, and those before the test's. Real series have no described events.
"""

import json
import sys
from pathlib import Path

from retainbench.tasks._build import Question, item_id, read_jsonl, write_jsonl

FACTS = Path(__file__).resolve().parent / "facts.jsonl"
SHOWN, ASKED, BLOCK = 8, 2, 10
"""Values in the question, values asked for, windows that share a cluster because they overlap."""
BOUNDS = {"train": (0.0, 0.6), "validation": (0.6, 0.75), "test": (0.75, 1.0)}
"""Part of each series that a split's windows come from."""


def write_facts() -> None:
    """facts.jsonl: one series a line, as whole numbers in the stated unit."""
    from statsmodels import datasets

    macro = datasets.macrodata.load_pandas().data
    co2 = datasets.co2.load_pandas().data["co2"].resample("MS").mean().interpolate()
    series = {
        "Monthly carbon dioxide in tenths of ppm": co2 * 10,
        "Yearly sunspots": datasets.sunspots.load_pandas().data["SUNACTIVITY"],
        "Yearly flow of the Nile": datasets.nile.load_pandas().data["volume"],
        "Quarterly unemployment in tenths of a percent": macro["unemp"] * 10,
        "Quarterly inflation in tenths of a percent": macro["infl"] * 10,
        "Quarterly interest rate in tenths of a percent": macro["tbilrate"] * 10,
    }
    rows = [{"name": n, "values": [round(float(v)) for v in s]} for n, s in series.items()]
    FACTS.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def row_of(name: str, place: int, window: list[int]) -> dict[str, object]:
    """One item: eight values shown, two asked for."""
    shown, future = window[:SHOWN], window[SHOWN:]
    text = ", ".join(str(value) for value in shown)
    query = f"{name}: {text}. What are the next two values?"
    question = Question(query, ", ".join(str(value) for value in future), (), name)
    return {
        "id": item_id("ts_forecast_real", question),
        "query": query,
        "answer": question.answer,
        "aliases": [],
        "cluster": f"{name}:{place // BLOCK}",
        "scale": max(max(window) - min(window), 1),
    }


def rows(split: str) -> list[dict[str, object]]:
    """Every window of the split's part of every series; repeated windows once."""
    low, high = BOUNDS[split]
    found: dict[object, dict[str, object]] = {}
    for entry in read_jsonl(FACTS):
        values = entry["values"]
        start, end = round(low * len(values)), round(high * len(values))
        for place in range(start, end - SHOWN - ASKED + 1):
            row = row_of(entry["name"], place, values[place : place + SHOWN + ASKED])
            found.setdefault(row["query"], row)
    return list(found.values())


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    for split, name in (("train", "train"), ("validation", "validation"), ("test", "items")):
        write_jsonl(folder / f"{name}.jsonl", rows(split))


if __name__ == "__main__":
    if "--facts" in sys.argv:
        write_facts()
    write_to(Path(__file__).resolve().parent)
