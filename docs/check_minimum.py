#!/usr/bin/env python3
"""Checks the claim of one kept run with NumPy alone.

    python3 check_minimum.py minima/TASK.npz … [--tolerance 1e-12]

Reads TASK.npz (the parameters), TASK.json (specification, evidence, baseline) and the data file that
TASK.json names, all written by `coordinator --out DIR` or `worker run --out DIR`, and recomputes, from the
formulas of the documentation and by code of its own,

    objective   mean loss + (r/2)(|W|^2 + |W V|^2) + (h/2)(|W|^2 + |V|^2) + (decay/2)|u|^2
    value       the objective without the body's decay: what stands beside the baseline
    gradient    the largest entry of its gradient in all parameters, by backward differentiation
    norm_a      |A|, A = E[g phi^T] + r W,    g_i = d loss_i / d f_i
    norm_b      |B|, B = E[g z^T] + r W V
    gap_bound   <A, W - R*> + <B, W V>: no smaller than value - baseline, at any point (convexity)
    baseline    the objective of R* phi(x)

for f(x) = W (phi(x) + V z(x; u)). Exit code: 0 all agree with the record; 1 something does not; 2 this script
does not cover the run, and says why. It does not recompute the Hessian: `worker verify TASK.npz` does.
"""

import argparse
import json
import math
import os
import sys

import numpy as np


class NotCovered(Exception):
    pass


# -- activations: sigma and its derivative. At a kink the derivative is that of the left piece. ------------------

ERF = np.vectorize(math.erf, otypes=[float])
SELU = 1.0507009873554805, 1.6732632423543773


def sigmoid(t):
    return 0.5 * (1 + np.tanh(0.5 * t))


def softplus(t):
    return np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))


def gelu(t):
    distribution = 0.5 * (1 + ERF(t / math.sqrt(2)))
    return t * distribution, distribution + t * np.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)


def gelu_tanh(t):
    k = math.sqrt(2 / math.pi)
    h = np.tanh(k * (t + 0.044715 * t**3))
    return 0.5 * t * (1 + h), 0.5 * (1 + h) + 0.5 * t * (1 - h * h) * k * (1 + 3 * 0.044715 * t * t)


def mish(t):
    h = np.tanh(softplus(t))
    return t * h, h + t * (1 - h * h) * sigmoid(t)


def piecewise(condition, inside, outside):
    return np.where(condition, inside, outside)


ACTIVATIONS = {
    "identity": lambda t: (t, np.ones_like(t)),
    "relu": lambda t: (np.maximum(t, 0), 1.0 * (t > 0)),
    "elu": lambda t: (piecewise(t > 0, t, np.expm1(np.minimum(t, 0))),
                      piecewise(t > 0, 1.0, np.exp(np.minimum(t, 0)))),
    "selu": lambda t: (SELU[0] * piecewise(t > 0, t, SELU[1] * np.expm1(np.minimum(t, 0))),
                       SELU[0] * piecewise(t > 0, 1.0, SELU[1] * np.exp(np.minimum(t, 0)))),
    "softplus": lambda t: (softplus(t), sigmoid(t)),
    "tanh": lambda t: (np.tanh(t), 1 - np.tanh(t) ** 2),
    "sigmoid": lambda t: (sigmoid(t), sigmoid(t) * sigmoid(-t)),
    "atan": lambda t: (np.arctan(t), 1 / (1 + t * t)),
    "softsign": lambda t: (t / (1 + np.abs(t)), 1 / (1 + np.abs(t)) ** 2),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": lambda t: (t * sigmoid(t), sigmoid(t) * (1 + t * sigmoid(-t))),
    "mish": mish,
    "sin": lambda t: (np.sin(t), np.cos(t)),
    "gaussian": lambda t: (np.exp(-t * t), -2 * t * np.exp(-t * t)),
    "quadratic": lambda t: (t * t, 2 * t),
    "cubic": lambda t: (t**3, 3 * t * t),
    "abs": lambda t: (np.abs(t), np.sign(t)),
    "relu6": lambda t: (np.clip(t, 0, 6), 1.0 * ((t > 0) & (t <= 6))),
    "hard_tanh": lambda t: (np.clip(t, -1, 1), 1.0 * ((t > -1) & (t <= 1))),
    "squared_relu": lambda t: (np.maximum(t, 0) ** 2, 2 * np.maximum(t, 0)),
}


def activation(spec):
    if isinstance(spec, dict) and "leaky_relu" in spec:
        slope = float(spec["leaky_relu"])
        return lambda t: (piecewise(t > 0, t, slope * t), piecewise(t > 0, 1.0, slope))
    if spec == "leaky_relu":
        return activation({"leaky_relu": 0.01})
    if isinstance(spec, str) and spec in ACTIVATIONS:
        return ACTIVATIONS[spec]
    raise NotCovered(f"the activation {spec}")


# -- losses: one number per row and target (one per row for cross_entropy), and the derivative in f --------------


def cross_entropy(f, y):
    shifted = f - f.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    # Rows of y sum to 1.
    return -(y * log_softmax), np.exp(log_softmax) - y


def huber(delta):
    def loss(f, y):
        e = f - y
        small = np.abs(e) <= delta
        return np.where(small, 0.5 * e * e, delta * (np.abs(e) - 0.5 * delta)), np.clip(e, -delta, delta)
    return loss


def log_cosh(f, y):
    e = f - y
    return np.abs(e) + np.log1p(np.exp(-2 * np.abs(e))) - math.log(2), np.tanh(e)


LOSSES = {
    "squared": lambda f, y: (0.5 * (f - y) ** 2, f - y),
    "cross_entropy": cross_entropy,
    "logistic": lambda f, y: (softplus(f) - y * f, sigmoid(f) - y),
    "huber": huber(1.0),
    "log_cosh": log_cosh,
    "squared_hinge": lambda f, y: (np.maximum(0, 1 - y * f) ** 2, -2 * y * np.maximum(0, 1 - y * f)),
    "poisson": lambda f, y: (np.exp(f) - y * f, np.exp(f) - y),
}


def loss_function(spec):
    if isinstance(spec, dict) and "huber" in spec:
        return huber(float(spec["huber"]))
    if isinstance(spec, str) and spec in LOSSES:
        return LOSSES[spec]
    raise NotCovered(f"the loss {spec}")


# -- bodies: z and a function that takes dL/dz to the gradients of the body's arrays ------------------------------


def mlp(p, x, sigma, depth, residual):
    """h_l = sigma(A_l h_{l-1} + b_l); with `residual`, from l = 2 on, h_{l-1} is added."""
    h, steps = x, []
    for l in range(1, depth + 1):
        value, slope = sigma(h @ p[f"A{l}"].T + p[f"b{l}"])
        steps.append((l, h, slope))
        h = h + value if residual and l > 1 else value

    def backward(dh):
        gradient = {}
        for l, before, slope in reversed(steps):
            dt = dh * slope
            gradient[f"A{l}"], gradient[f"b{l}"] = dt.T @ before, dt.sum(axis=0)
            dh = dt @ p[f"A{l}"] + (dh if residual and l > 1 else 0)
        return gradient

    return h, backward


def preact(p, x, sigma, depth):
    """h_0 = A0 x + b0; h_l = h_{l-1} + B_l sigma(C_l sigma(h_{l-1}) + c_l)."""
    h, steps = x @ p["A0"].T + p["b0"], []
    for l in range(1, depth + 1):
        outer, outer_slope = sigma(h)
        inner, inner_slope = sigma(outer @ p[f"C{l}"].T + p[f"c{l}"])
        steps.append((l, outer, outer_slope, inner, inner_slope))
        h = h + inner @ p[f"B{l}"].T

    def backward(dh):
        gradient = {}
        for l, outer, outer_slope, inner, inner_slope in reversed(steps):
            gradient[f"B{l}"] = dh.T @ inner
            dt = (dh @ p[f"B{l}"]) * inner_slope
            gradient[f"C{l}"], gradient[f"c{l}"] = dt.T @ outer, dt.sum(axis=0)
            dh = dh + (dt @ p[f"C{l}"]) * outer_slope
        gradient["A0"], gradient["b0"] = dh.T @ x, dh.sum(axis=0)
        return gradient

    return h, backward


def representation(cell, p, data):
    body = cell["body"]
    if isinstance(body, dict) and "table" in body:
        return data["z"], lambda dz: {}
    sigma = activation(cell["activation"])
    if body in ("mlp", "residual"):
        return mlp(p, data["x"], sigma, cell["depth"], body == "residual")
    if body == "preact":
        return preact(p, data["x"], sigma, cell["depth"])
    raise NotCovered(f"the body {body}")


# -- the claim ----------------------------------------------------------------------------------------------------


def recompute(cell, p, data, baseline):
    if cell["skip"] != "outer":
        raise NotCovered(f"skip: {cell['skip']}")
    loss = loss_function(cell["loss"])
    strengths = cell["regularizer"]
    r, decay, h = strengths["predictor_ridge"], strengths["body_decay"], strengths["head_decay"]
    phi, y, mask = data["phi"], data["y"], data.get("mask", 1.0)
    n = len(y)
    z, backward = representation(cell, p, data)
    W, V = p["W"], p["V"]
    WV = W @ V
    losses, g = loss(phi @ W.T + z @ WV.T, y)
    g = g * mask / n
    body = [name for name in p if name not in ("W", "V")]
    square = lambda a: float(np.sum(a * a))
    value = (np.sum(losses * mask) / n + 0.5 * r * (square(W) + square(WV)) + 0.5 * h * (square(W) + square(V)))
    objective = value + 0.5 * decay * sum(square(p[name]) for name in body)
    A, B = g.T @ phi + r * W, g.T @ z + r * WV
    gradient = {"W": A + B @ V.T + h * W, "V": W.T @ B + h * V}
    if cell["freeze"] != "body":
        for name, own in backward(g @ WV).items():
            gradient[name] = own + decay * p[name]
    # Sums that cancel keep the rounding of their terms: the size of those terms is the scale of what is compared.
    outputs = np.abs(phi) @ np.abs(W).T + np.abs(z) @ np.abs(WV).T
    largest = lambda a: float(np.max(np.abs(a), initial=1.0))
    scale = max(1.0, abs(float(objective)))
    scales = {"objective": scale, "value": scale, "baseline": scale}
    scale *= largest(z) * largest(outputs)
    scales |= {"gradient_norm": scale, "norm_a": scale, "norm_b": scale, "gap_bound": scale}
    result = {
        "objective": float(objective),
        "value": float(value),
        "gradient_norm": max((float(np.max(np.abs(a))) for a in gradient.values() if a.size), default=0.0),
    }
    if baseline is not None:
        R = np.array(baseline["minimizer"], dtype=float).reshape(W.shape)
        own_losses, _ = loss(phi @ R.T, y)
        own = np.sum(own_losses * mask) / n + 0.5 * (r + h) * square(R)
        result["baseline"] = float(own)
    if h == 0:
        result["norm_a"], result["norm_b"] = float(np.linalg.norm(A)), float(np.linalg.norm(B))
        if baseline is not None:
            bound = np.sum(A * (W - R)) + np.sum(B * WV)
            if baseline["status"] == "infimum_not_attained":
                bound += own - baseline["value"]
            result["gap_bound"] = float(bound)
    return result, scales


def check(path, tolerance):
    stem = path[:-4] if path.endswith(".npz") else path
    with open(stem + ".json", encoding="utf-8") as file:
        claim = json.load(file)
    if claim["schema"] != "minimum/1":
        raise NotCovered(f"the schema {claim['schema']}")
    if claim.get("data") is None:
        raise NotCovered("data that were too large to be written beside the minimum")
    with np.load(stem + ".npz") as file:
        p = {name: file[name] for name in file.files}
    with np.load(os.path.join(os.path.dirname(stem), claim["data"])) as file:
        data = {name: file[name] for name in file.files}
    cell, evidence, baseline = claim["specification"]["cell"], claim["evidence"], claim["baseline"]
    result, scales = recompute(cell, p, data, baseline)
    recorded = {name: evidence.get(name) for name in result if name != "baseline"}
    # Where the infimum is not attained, R* only lies near it.
    if baseline is not None and baseline["status"] == "attained":
        recorded["baseline"] = baseline["value"]
    if evidence["kinks"] > 0:
        # On a kink the record is of the generalised gradient, which no single piece has.
        recorded["gradient_norm"] = None
    print(f"task {claim['task']}")
    print(f"outcome {evidence['outcome']}, kinks {evidence['kinks']}")
    agree = True
    for name, own in result.items():
        theirs = recorded.get(name)
        if not isinstance(theirs, (int, float)):
            print(f"{name:14} recomputed {own: .17e}  not compared")
            continue
        difference = abs(own - theirs) / scales[name]
        good = difference <= tolerance
        agree &= good
        print(f"{name:14} recomputed {own: .17e}  recorded {theirs: .17e}  "
              f"difference {difference:.1e} {'ok' if good else 'DISAGREES'}")
    if "gap_bound" in result and "baseline" in result:
        excess = result["value"] - baseline["value"]
        holds = excess <= result["gap_bound"] + tolerance * scales["gap_bound"]
        agree &= holds
        print(f"value - baseline {excess: .3e} {'<=' if holds else 'EXCEEDS'} gap bound {result['gap_bound']: .3e}")
    return agree


def main():
    parser = argparse.ArgumentParser(description="Checks the claim of one kept run with NumPy alone.")
    parser.add_argument("minima", nargs="+", metavar="TASK.npz", help="minima, with TASK.json and the data beside them")
    parser.add_argument("--tolerance", type=float, default=1e-12,
                        help="largest difference: of values relative to max(1, |objective|), of the others also to "
                             "the largest |z| and the largest terms of f [1e-12]")
    arguments = parser.parse_args()
    # The data lie in the same folder: `minima/*.npz` names them, too.
    minima = [path for path in arguments.minima if not os.path.basename(path).startswith("data-")]
    if not minima:
        parser.error("no minimum is named: data-*.npz are the data of minima")
    code = 0
    for path in minima:
        try:
            agree = check(path, arguments.tolerance)
        except NotCovered as what:
            print(f"not covered by this script: {what}; `worker verify {path}` checks it", file=sys.stderr)
            code = code or 2
            continue
        print("agrees with its record" if agree else "does NOT agree with its record")
        if not agree:
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
