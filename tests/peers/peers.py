#!/usr/bin/env python3
"""The cases of `worker bench` computed by JAX, PyTorch, SciPy and optimistix, beside the worker.

    python3 -m venv peers && peers/bin/pip install -r tests/peers/requirements.txt
    peers/bin/python tests/peers/peers.py target/release/worker [--case S,M] [--rounds 5] [--json FILE]

Everything is f64 and runs on one core, to which this process and the worker are pinned. Data and
starts are the worker's own (`worker bench --export`), and before anything is timed each peer must
reproduce the worker's objective and gradient norm. Each round measures the worker and then every
peer; a ratio is the median over the rounds of peer by worker.

A peer has reached a minimum when no entry of the gradient exceeds 1e-8. The worker's runs end with
a certificate (gradient at most 1e-9 and all of docs/engine.md), which no peer gives.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# One core, before any library counts them.
CORE = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {CORE})
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optimistix  # noqa: E402
import scipy.optimize  # noqa: E402
import torch  # noqa: E402

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)

GRADIENT = 1e-8
VMAP = 16
PRODUCTS = ("S", "M", "L")
MINIMA = {"S": 5, "M": 3}
# Seconds after which a peer's run is given up, looked at between its iterations.
PATIENCE = 60.0


class Case:
    """Data, starts, and how θ is cut into arrays."""

    def __init__(self, name, folder):
        self.name = name
        self.about = json.loads((folder / f"{name}.json").read_text())
        arrays = np.load(folder / f"{name}.npz")
        self.x, self.phi, self.y = arrays["x"], arrays["phi"], arrays["y"]
        self.starts = arrays["starts"]
        self.depth = self.about["specification"]["depth"]

    def split(self, theta):
        parts, at = {}, 0
        for array in self.about["arrays"]:
            size = int(np.prod(array["shape"]))
            parts[array["name"]] = theta[at : at + size].reshape(array["shape"])
            at += size
        return parts

    def residuals(self, theta, xp, x, phi, y):
        """W(φ + V z) − y with h_1 = tanh(A_1 x + b_1), h_l = h_{l−1} + tanh(A_l h_{l−1} + b_l)."""
        p = self.split(theta)
        h = xp.tanh(x @ p["A1"].T + p["b1"])
        for l in range(2, self.depth + 1):
            h = h + xp.tanh(h @ p[f"A{l}"].T + p[f"b{l}"])
        return (phi + h @ p["V"].T) @ p["W"].T - y

    def check(self, who, value, gradient):
        norm = float(np.max(np.abs(np.asarray(gradient))))
        for found, expected in ((float(value), self.about["objective"]), (norm, self.about["gradient_norm"])):
            if abs(found - expected) > 1e-10 * abs(expected):
                sys.exit(f"{who} computes something else on {self.name}: {found!r}, not {expected!r}")


def repeat(seconds, f):
    """Seconds of one call, the median over `seconds`; the first calls do not count."""
    f()
    f()
    times = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    return statistics.median(times)


class Jax:
    name = "JAX"

    def __init__(self, case):
        x, phi, y = (jnp.asarray(a) for a in (case.x, case.phi, case.y))
        n = case.y.shape[0]
        self.residuals = lambda theta: case.residuals(theta, jnp, x, phi, y).ravel()
        self.loss = lambda theta: 0.5 * jnp.sum(self.residuals(theta) ** 2) / n
        self.scaled = lambda theta, _: self.residuals(theta) / np.sqrt(n)
        self.both = jax.jit(jax.value_and_grad(self.loss))
        self.batch = jax.jit(jax.vmap(jax.value_and_grad(self.loss)))
        self.hvp = jax.jit(lambda t, v: jax.jvp(jax.grad(self.loss), (t,), (v,))[1])
        self.theta = jnp.asarray(case.starts[0])
        self.direction = jnp.asarray(case.starts[1])
        self.thetas = jnp.asarray(np.resize(case.starts, (VMAP, case.starts.shape[1])))
        case.check(self.name, *self.both(self.theta))

    def gradient(self, seconds):
        return repeat(seconds, lambda: jax.block_until_ready(self.both(self.theta)))

    def vmap(self, seconds):
        return repeat(seconds, lambda: jax.block_until_ready(self.batch(self.thetas))) / VMAP

    def product(self, seconds):
        return repeat(seconds, lambda: self.hvp(self.theta, self.direction).block_until_ready())


class Torch:
    name = "PyTorch"

    def __init__(self, case):
        x, phi, y = (torch.from_numpy(a) for a in (case.x, case.phi, case.y))
        n = case.y.shape[0]
        self.loss = lambda theta: 0.5 * (case.residuals(theta, torch, x, phi, y) ** 2).sum() / n
        self.theta = torch.from_numpy(case.starts[0].copy()).requires_grad_()
        self.direction = torch.from_numpy(case.starts[1].copy())
        value = self.loss(self.theta)
        case.check(self.name, value.item(), torch.autograd.grad(value, self.theta)[0].numpy())

    def gradient(self, seconds):
        return repeat(seconds, lambda: torch.autograd.grad(self.loss(self.theta), self.theta))

    def product(self, seconds):
        def product():
            (g,) = torch.autograd.grad(self.loss(self.theta), self.theta, create_graph=True)
            torch.autograd.grad(g, self.theta, self.direction)

        return repeat(seconds, product)


class TooSlow(Exception):
    pass


def levenberg_marquardt(jx):
    """optimistix on the residuals."""
    solver = optimistix.LevenbergMarquardt(rtol=1e-12, atol=1e-12)

    @jax.jit
    def solve(theta):
        return optimistix.least_squares(jx.scaled, solver, theta, max_steps=5_000, throw=False).value

    # Compiled before the clock starts.
    solve.lower(jx.theta).compile()
    return lambda theta: np.asarray(solve(jnp.asarray(theta)))


def l_bfgs_b(jx):
    """SciPy on value and gradient from JAX."""

    def fun(theta):
        value, gradient = jx.both(theta)
        return float(value), np.asarray(gradient)

    def solve(theta):
        began = time.perf_counter()

        def look(_):
            if time.perf_counter() - began > PATIENCE:
                raise TooSlow

        options = {"maxiter": 10**6, "maxfun": 10**6, "ftol": 0.0, "gtol": GRADIENT, "maxcor": 20}
        try:
            return scipy.optimize.minimize(
                fun, theta, jac=True, method="L-BFGS-B", options=options, callback=look
            ).x
        except TooSlow:
            return theta

    return solve


def minima(case, jx, seeds):
    """Per solver: seconds of every seed, and how many reached the gradient."""
    solvers = {"SciPy L-BFGS-B": l_bfgs_b(jx)}
    if case.name == "S":
        # On M one step factors a matrix of thousands of columns.
        solvers["optimistix Levenberg–Marquardt"] = levenberg_marquardt(jx)
    found = {}
    for name, solve in solvers.items():
        times, reached = [], 0
        for start in case.starts[:seeds]:
            t = time.perf_counter()
            end = solve(start)
            times.append(time.perf_counter() - t)
            reached += int(float(jnp.max(jnp.abs(jx.both(end)[1]))) <= GRADIENT)
        found[name] = {"median": statistics.median(times), "reached": reached, "seeds": seeds}
    return found


def worker(program, case, measure, seconds):
    command = [program, "bench", "--json", "--case", case, "--measure", measure, "--seconds", str(seconds)]
    out = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return out, out["measurements"][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worker")
    parser.add_argument("--case", default="S,M,L,XL")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each evaluation of each round")
    parser.add_argument("--no-minima", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = args.case.split(",")
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    subprocess.run([args.worker, "bench", "--export", str(folder), "--case", args.case], check=True)
    about = worker(args.worker, names[0], "gradient", 0)[0]
    versions = {m.__name__: m.__version__ for m in (jax, torch, scipy, optimistix, np)}
    print(f"{about['processor']}, {about['instruction_set']}, one core; worker {about['version']}, Python "
          f"{platform.python_version()}, " + ", ".join(f"{k} {v}" for k, v in versions.items()), flush=True)
    rows = []
    for name in names:
        case = Case(name, folder)
        jx, pt = Jax(case), Torch(case)
        peers = {("gradient", "JAX"): jx.gradient, ("gradient", "PyTorch"): pt.gradient}
        if name != "XL":
            peers[("gradient", f"JAX vmap {VMAP}, per seed")] = jx.vmap
        if name in PRODUCTS:
            peers[("product", "JAX")] = jx.product
            peers[("product", "PyTorch")] = pt.product
        samples = {}
        for _ in range(args.rounds):
            for measure in dict.fromkeys(m for m, _ in peers):
                own = worker(args.worker, name, measure, args.seconds)[1]["median"]
                samples.setdefault((measure, "worker"), []).append(own)
                for (m, who), run in peers.items():
                    if m == measure:
                        samples.setdefault((m, who), []).append(run(args.seconds))
        for (measure, who), times in samples.items():
            own = samples[measure, "worker"]
            ratio = statistics.median(t / o for t, o in zip(times, own))
            rows.append({"case": name, "measure": measure, "who": who, "median": statistics.median(times),
                         "min": min(times), "ratio": ratio})
        if name in MINIMA and not args.no_minima:
            own = worker(args.worker, name, "minimum", 0)[1]
            rows.append({"case": name, "measure": "minimum", "who": "worker", "median": own["median"],
                         "min": own["min"], "ratio": 1.0, "reached": own["certified"], "seeds": own["samples"]})
            for who, found in minima(case, jx, MINIMA[name]).items():
                rows.append({"case": name, "measure": "minimum", "who": who, **found,
                             "ratio": found["median"] / own["median"]})
        for row in (r for r in rows if r["case"] == name):
            reached = f"  {row['reached']:.0f} of {row['seeds']} reached it" if "seeds" in row else ""
            print(f"{name:3} {row['measure']:9} {row['who']:32} {1e6 * row['median']:14,.1f} µs  "
                  f"{row['ratio']:7.2f} × the worker's{reached}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "versions": versions, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
