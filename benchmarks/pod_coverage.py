"""How often a90/95 lies above the true a90: 95 of 100 studies should, in simulated studies whose truth is known.

    python benchmarks/pod_coverage.py

A study has flaws of log-uniform sizes, found by chance. In the wide design they go from 0.3 to 6 mm, with a POD of 50 %
at 1.2 mm and of 90 % at 2.5 mm; in the steep one from 0.3 to 3 mm, with 50 % at 2 mm and 90 % at 2.5 mm, near the upper
end. A study without a bound counts as covered: it claims nothing. Refused studies are counted apart.
"""

import argparse
import math
import time

import numpy as np
from records import record
from scipy.special import expit, logit, ndtr, ndtri

from defects_in_welds.evaluation.pod.hit_miss import PodFit, PodRefusal, fit_pod
from defects_in_welds.evaluation.pod.signal_response import fit_signal

A90_MM = 2.5
DESIGNS = {"wide": (0.3, 6.0, 1.2), "steep": (0.3, 3.0, 2.0)}  # least and largest size and a50, in mm
LINKS = {"logit": (expit, logit), "probit": (ndtr, ndtri)}
CASES = [
    *((flaws, "wide", link, link) for flaws in (40, 60, 120, 300) for link in LINKS),
    *((flaws, "wide", "logit", "logit, plain ratio") for flaws in (60, 120, 300)),
    (60, "wide", "logit", "logit, plain ratio, 97.5 %"),  # as mh1823 does
    (120, "wide", "logit", "probit"),
    (120, "wide", "probit", "logit"),
    *((flaws, "steep", link, link) for flaws in (60, 120) for link in LINKS),
    *((flaws, "wide", "probit", "signal") for flaws in (40, 60, 120, 300)),
    *((flaws, "wide", "probit", "signal, censored") for flaws in (60, 120, 300)),
]
CENSOR_AT = -1.0, 2.5
"""Signals that a censored study does not see beyond; flaws are found from 0 on, with a scatter of 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies of each kind")
    studies = parser.parse_args().studies
    rows = []
    print(
        "flaws  design  truth   fitted                      covered           unbounded  penalised  fell back  refused"
        "  ms a fit  median a90/95 in mm"
    )
    for case in CASES:
        row = count(*case, studies)
        rows.append(row)
        print(
            f"{row['flaws']:5}  {row['design']:6}  {row['truth']:6}  {row['fitted']:26}"
            f"  {row['covered']:.2%} +- {row['standard error']:.2%}"
            f"  {row['unbounded']:9}  {row['penalised']:9}  {row['fell back']:9}  {row['refused']:7}"
            f"  {row['ms a fit']:8}  {row['median a90/95 in mm']}",
            flush=True,
        )
    record("pod_coverage", {"studies of each kind": studies, "true a90 in mm": A90_MM, "kinds": rows})


def count(flaws: int, design: str, truth: str, fitted: str, studies: int) -> dict[str, object]:
    """Simulate studies and count the bounds above the true a90."""
    random = np.random.default_rng([flaws, list(LINKS).index(truth)])  # the same studies, whatever is fitted
    smallest_mm, largest_mm, a50_mm = DESIGNS[design]
    distribution, quantile = LINKS[truth]
    is_plain = "plain" in fitted
    results = []
    seconds = 0.0
    for _ in range(studies):
        sizes = np.exp(random.uniform(math.log(smallest_mm), math.log(largest_mm), flaws))
        eta = quantile(0.9) * np.log(sizes / a50_mm) / math.log(A90_MM / a50_mm)
        hits = random.random(flaws) < distribution(eta)
        scatter = random.normal(size=flaws)
        start = time.perf_counter()
        if fitted.startswith("signal"):
            limits = CENSOR_AT if "censored" in fitted else (None, None)
            results.append(fit_signal(sizes, eta + scatter, 0.0, False, *limits))
        else:
            confidence = 0.975 if "97.5 %" in fitted else 0.95
            results.append(fit_pod(sizes, hits, fitted.partition(",")[0], confidence, correction=not is_plain))
        seconds += time.perf_counter() - start
    fits = [result for result in results if not isinstance(result, PodRefusal)]
    bounds = np.array([math.inf if fit.a90_95 is None else fit.a90_95 for fit in fits])
    covered = float((bounds >= A90_MM).mean())
    return {
        "flaws": flaws,
        "design": design,
        "truth": truth,
        "fitted": fitted,
        "covered": round(covered, 4),
        "standard error": round(math.sqrt(covered * (1 - covered) / len(fits)), 4),
        "unbounded": int(np.isinf(bounds).sum()),
        "penalised": sum(isinstance(fit, PodFit) and fit.is_separated for fit in fits),
        "fell back": 0 if is_plain else sum(fit.bound == "likelihood ratio" for fit in fits),
        "refused": len(results) - len(fits),
        "ms a fit": round(1000 * seconds / studies, 1),
        "median a90/95 in mm": round(float(np.median(bounds)), 2),
    }


if __name__ == "__main__":
    main()
