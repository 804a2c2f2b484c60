"""How often a90/95 lies above the true a90: 95 of 100 studies should, in simulated studies whose truth is known.

    python benchmarks/pod_coverage.py

A study has flaws of log-uniform sizes from 0.3 to 6 mm, found by chance with a POD of 50 % at 1.2 mm and of 90 % at
2.5 mm. A study without a bound counts as covered: it claims nothing. Refused studies are counted apart.
"""

import argparse
import math
import time

import numpy as np
from records import record
from scipy.special import expit, logit, ndtr, ndtri

from defects_in_welds.evaluation.pod import PodFit, PodRefusal, fit_pod, fit_signal

SMALLEST_MM, LARGEST_MM, A50_MM, A90_MM = 0.3, 6.0, 1.2, 2.5
LINKS = {"logit": (expit, logit), "probit": (ndtr, ndtri)}
CASES = [
    *((flaws, link, link) for flaws in (60, 120, 300) for link in LINKS),
    (60, "logit", "logit, 97.5 %"),  # as mh1823 does
    (120, "logit", "probit"),
    (120, "probit", "logit"),
    (60, "probit", "signal"),
    (120, "probit", "signal"),
    (300, "probit", "signal"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies of each kind")
    studies = parser.parse_args().studies
    rows = []
    print(
        "flaws  truth   fitted         covered           unbounded  penalised  refused  ms a fit  median a90/95 in mm"
    )
    for flaws, truth, fitted in CASES:
        row = count(flaws, truth, fitted, studies)
        rows.append(row)
        print(
            f"{flaws:5}  {truth:6}  {fitted:13}  {row['covered']:.2%} +- {row['standard error']:.2%}"
            f"  {row['unbounded']:9}  {row['penalised']:9}  {row['refused']:7}  {row['ms a fit']:8}"
            f"  {row['median a90/95 in mm']}",
            flush=True,
        )
    record("pod_coverage", {"studies of each kind": studies, "true a90 in mm": A90_MM, "kinds": rows})


def count(flaws: int, truth: str, fitted: str, studies: int) -> dict[str, object]:
    """Simulate studies and count the bounds above the true a90."""
    random = np.random.default_rng([flaws, list(LINKS).index(truth)])  # the same studies, whatever is fitted
    results = []
    seconds = 0.0
    for _ in range(studies):
        sizes = np.exp(random.uniform(math.log(SMALLEST_MM), math.log(LARGEST_MM), flaws))
        distribution, quantile = LINKS[truth]
        eta = quantile(0.9) * np.log(sizes / A50_MM) / math.log(A90_MM / A50_MM)
        hits = random.random(flaws) < distribution(eta)
        scatter = random.normal(size=flaws)
        start = time.perf_counter()
        if fitted == "signal":
            results.append(fit_signal(sizes, eta + scatter, 0.0, log_signal=False))
        else:
            confidence = 0.975 if fitted.endswith("97.5 %") else 0.95
            results.append(fit_pod(sizes, hits, fitted.partition(",")[0], confidence))
        seconds += time.perf_counter() - start
    fits = [result for result in results if not isinstance(result, PodRefusal)]
    bounds = np.array([math.inf if fit.a90_95 is None else fit.a90_95 for fit in fits])
    covered = float((bounds >= A90_MM).mean())
    return {
        "flaws": flaws,
        "truth": truth,
        "fitted": fitted,
        "covered": round(covered, 4),
        "standard error": round(math.sqrt(covered * (1 - covered) / len(fits)), 4),
        "unbounded": int(np.isinf(bounds).sum()),
        "penalised": sum(isinstance(fit, PodFit) and fit.is_separated for fit in fits),
        "refused": len(results) - len(fits),
        "ms a fit": round(1000 * seconds / studies, 1),
        "median a90/95 in mm": round(float(np.median(bounds)), 2),
    }


if __name__ == "__main__":
    main()
