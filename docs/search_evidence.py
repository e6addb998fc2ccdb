#!/usr/bin/env python3
"""Does `search: worst` find worse minima than as many runs without it? Prints the tables of search.md.

Usage: search_evidence.py [--factor F] [--repeats N] [--coordinator PATH] FOLDER

Plays grids/search/*.yaml in three ways, each N times with other seeds: the grid with its search; "plain", as many
runs from the standard start; and "spread", as many runs shared evenly by the search's own 22 starts. FOLDER takes
the grids, the store and the results. F multiplies the number of runs. Needs nothing but Python and the coordinator.
"""
import argparse
import json
import math
import pathlib
import re
import subprocess

STARTS = """standard 1, standard 0.3, standard 3, small 1, small 10, large 0.5, large 1, saturated 0.1, saturated 0.3,
saturated 1, dead 0.1, dead 0.3, dead 1, zero_residual 1, rank_deficient 1, duplicated 1, duplicated 3, subnetwork 1,
sign_flipped 1, sign_flipped 3, ascent 1, ascent 10""".replace("\n", " ").split(", ")
GRIDS = pathlib.Path(__file__).resolve().parent.parent / "grids"


def variants(text, repeat, factor):
    """The three grids of one repeat, by name."""
    rule = re.search(r"search: \{worst: \{runs: (\d+), round: (\d+), seed: 0\}\}\n", text)
    cells = len(re.search(r"data:\n?((?:    - .*\n)+| \[.*\]\n)", text)[1].strip().strip("[]").splitlines())
    if cells == 1:
        cells = re.search(r"data: \[(.*)\]", text)[1].count(",") + 1
    runs = int(rule[1]) * factor
    total = runs // cells + 20
    first = repeat * 100_000
    seeds = "seed: {start: 0, count: 20}"
    assert seeds in text
    text = text.replace("../controls", str(GRIDS / "controls"))
    bare = text.replace(rule[0], "")
    each = math.ceil(total / len(STARTS))
    starts = ", ".join("{%s: {scale: %s}}" % tuple(s.split()) for s in STARTS)
    return {
        "search": text.replace(seeds, f"seed: {{start: {first}, count: 20}}").replace(
            rule[0], f"search: {{worst: {{runs: {runs}, round: {int(rule[2]) * factor}, seed: {repeat}}}}}\n"
        ),
        "plain": bare.replace(seeds, f"seed: {{start: {first}, count: {total}}}"),
        "spread": bare.replace(seeds, f"training.start: [{starts}]\n  seed: {{start: {first}, count: {each}}}"),
    }


def worst(coordinator, folder, name, text):
    """Per cell: its name, the worst certified value, and the number of runs."""
    grid = folder / f"{name}.yaml"
    grid.write_text(text)
    out = folder / name
    command = [coordinator, "--grid", str(grid), "--store", str(folder / "store"), "--out", str(out)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    if code != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {code}")
    cells = json.loads((out / "summary.json").read_text())["cells"]
    return [
        (c["worst"]["value"] if c["worst"] else -math.inf, c["baseline"]["value"], c["runs"] + (c.get("search") or {}).get("runs", 0))
        for c in cells
    ]


def compare(a, b):
    """1 if a is worse (higher), 0 if equal to 1e-9, -1 if lower."""
    if a == b or abs(a - b) <= 1e-9 * max(1.0, abs(b)):
        return 0
    return 1 if a > b else -1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--factor", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--coordinator", default="coordinator")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((GRIDS / "search").glob("*.yaml")):
        found = {"search": [], "plain": [], "spread": []}
        for repeat in range(args.repeats):
            for way, text in variants(path.read_text(), repeat, args.factor).items():
                found[way].append(worst(args.coordinator, folder, f"{path.stem}-{way}-{repeat}", text))
        print(f"\n{path.stem}: runs in a cell, median worst value of {args.repeats}, and search against the others\n")
        print("| cell | baseline | search | plain | spread | worse, same, better than plain | than spread |")
        print("|---|---|---|---|---|---|---|")
        for cell, (_, baseline, _) in enumerate(found["search"][0]):
            column = {way: [sweep[cell] for sweep in found[way]] for way in found}
            middle = {way: sorted(v for v, _, _ in column[way])[args.repeats // 2] for way in found}
            runs = {way: column[way][0][2] for way in found}
            scores = []
            for other in ("plain", "spread"):
                signs = [compare(s[0], o[0]) for s, o in zip(column["search"], column[other])]
                scores.append(", ".join(str(signs.count(sign)) for sign in (1, 0, -1)))
            print(
                f"| {cell + 1} | {baseline:.6g} | "
                + " | ".join(f"{middle[w]:.6g} ({runs[w]})" for w in found)
                + f" | {scores[0]} | {scores[1]} |"
            )


if __name__ == "__main__":
    main()
