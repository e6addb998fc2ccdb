#!/usr/bin/env python3
"""Makes the data files of these grids again: python3 make.py, in this folder. Needs nothing but Python."""

import itertools
import math
import random


def write(name, header, rows):
    with open(name, "w", encoding="ascii") as file:
        file.write(",".join(header) + "\n")
        for row in rows:
            file.write(",".join(repr(round(x, 9)) if isinstance(x, float) else str(x) for x in row) + "\n")


def compositional(rows=120):
    """Poggio et al. 2017: a binary tree of functions of two variables each, on eight inputs."""
    draw = random.Random(1)
    node = lambda a, b: math.tanh(a * b + 0.5 * a - 0.3 * b)
    table = []
    for _ in range(rows):
        level = x = [draw.uniform(-2, 2) for _ in range(8)]
        while len(level) > 1:
            level = [node(level[i], level[i + 1]) for i in range(0, len(level), 2)]
        table.append(x + level)
    write("compositional.csv", [f"x{i}" for i in range(8)] + ["y"], table)


def folding(rows=150, folds=2):
    """Montufar et al. 2014: the plane folded onto a quarter, `folds` times; the target is linear there."""
    draw = random.Random(2)
    table = []
    for _ in range(rows):
        x = [draw.uniform(-1, 1), draw.uniform(-1, 1)]
        u = x
        for _ in range(folds):
            u = [2 * abs(v) - 1 for v in u]
        table.append(x + [u[0] + 0.5 * u[1]])
    write("folding.csv", ["x0", "x1", "y"], table)


def three_node():
    """Blum & Rivest 1992: corners of the cube that two half-spaces together cut off, and no single one does."""
    table = []
    for x in itertools.product([0, 1], repeat=4):
        s = sum(x)
        table.append(list(x) + [1 if 1 <= s <= 2 else 0])
    write("three-node.csv", ["x0", "x1", "x2", "x3", "y"], table)


def convolutional(rows=80):
    """Brutzkus & Globerson 2017, with overlap: one 3x3 filter over a 4x4 Gaussian image, relu, the mean over places."""
    draw = random.Random(3)
    kernel = [[draw.gauss(0, 0.6) for _ in range(3)] for _ in range(3)]
    table = []
    for _ in range(rows):
        x = [[draw.gauss(0, 1) for _ in range(4)] for _ in range(4)]
        total = 0.0
        for r, c in itertools.product(range(4), repeat=2):
            near = ((i, j) for i, j in itertools.product(range(3), repeat=2) if 0 <= r + i - 1 < 4 and 0 <= c + j - 1 < 4)
            total += max(0.0, sum(kernel[i][j] * x[r + i - 1][c + j - 1] for i, j in near))
        table.append([v for row in x for v in row] + [total / 16])
    write("convolutional.csv", [f"x{i}" for i in range(16)] + ["y"], table)


def depth_three(rows=100):
    """Goel & Klivans 2017: a sigmoid of a sum of sigmoids of Gaussian inputs."""
    draw = random.Random(4)
    sigmoid = lambda t: 1 / (1 + math.exp(-t))
    units = [([draw.gauss(0, 2) for _ in range(4)], draw.gauss(0, 1), 6 * (-1) ** j) for j in range(4)]
    table = []
    for _ in range(rows):
        x = [draw.gauss(0, 1) for _ in range(4)]
        inner = sum(a * sigmoid(sum(w * v for w, v in zip(ws, x)) + b) for ws, b, a in units)
        table.append(x + [sigmoid(inner)])
    write("depth-three.csv", [f"x{i}" for i in range(4)] + ["y"], table)


if __name__ == "__main__":
    compositional()
    convolutional()
    depth_three()
    folding()
    three_node()
