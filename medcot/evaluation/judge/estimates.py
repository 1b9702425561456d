"""From a judge's verdicts to what they estimate: corrected for its errors, by its licence's cases or by people.

- `by_errors`: Rogan and Gladen (1978). The judge's error rates are those over the cases of its licence, so this holds
  as far as real answers are as easy to judge as those.
- `by_people`: prediction-powered inference for a mean (Angelopoulos and others, Science 2023), with the tuned weight of
  PPI++ (arXiv 2311.01453). It holds whatever the judge's errors are, if the judged answers were drawn at random.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from medcot.evaluation.judge.licence import Agreement, Errors

LEAST_KAPPA = 0.4  # "moderate" in Landis and Koch (1977)
FEWEST_LABELS = 10


class Estimate(NamedTuple):
    """A share with its 95% interval."""

    value: float
    low: float
    high: float


def by_errors(called: Sequence[float], errors: Errors) -> Estimate | None:
    """The share that is wrong, from the share that is called wrong; None for a judge that cannot tell."""
    sensitivity, false = errors.wrong_called_wrong / errors.wrong, errors.right_called_wrong / errors.right
    gap = sensitivity - false
    if gap <= 0.2 or not called:
        return None
    observed = math.fsum(called) / len(called)
    value = min(1.0, max(0.0, (observed - false) / gap))
    spread = observed * (1 - observed) / len(called)
    spread += value**2 * sensitivity * (1 - sensitivity) / errors.wrong
    spread += (1 - value) ** 2 * false * (1 - false) / errors.right
    return _bounded(value, 1.96 * math.sqrt(spread) / gap)


def by_people(called: Mapping[Hashable, float], people: Mapping[Hashable, float]) -> Estimate | None:
    """The mean of what people would say of all, who said it of some; None with fewer than FEWEST_LABELS.

    The answers that people did not judge have the judge's verdicts alone: N of them, beside n with both. With weight w
    the estimate is w * mean(judge, N) + mean(people - w * judge, n); w minimises its variance.
    """
    import numpy
    from scipy.stats import t

    both = [key for key in called if key in people]
    if len(both) < FEWEST_LABELS:
        return None
    said = numpy.array([called[key] for key in both], dtype=float)
    truth = numpy.array([people[key] for key in both], dtype=float)
    rest = numpy.array([value for key, value in called.items() if key not in people], dtype=float)
    n, more = len(both), len(rest)
    quantile = float(t.ppf(0.975, n - 1))
    if not more:
        return _bounded(float(truth.mean()), quantile * float(truth.std(ddof=1)) / math.sqrt(n))
    spread = float(numpy.concatenate([said, rest]).var(ddof=1))
    covariance = float(numpy.cov(truth, said, ddof=1)[0, 1])
    weight = min(1.0, max(0.0, covariance / ((1 + n / more) * spread))) if spread else 0.0
    corrections = truth - weight * said
    value = weight * float(rest.mean()) + float(corrections.mean())
    variance = weight**2 * float(rest.var(ddof=1) if more > 1 else spread) / more
    variance += float(corrections.var(ddof=1)) / n
    return _bounded(value, quantile * math.sqrt(variance))


def _bounded(value: float, reach: float) -> Estimate:
    return Estimate(*(min(1.0, max(0.0, one)) for one in (value, value - reach, value + reach)))


def agreement(judge: Mapping[Hashable, str], people: Mapping[str, Mapping[Hashable, str]]) -> Agreement | None:
    """How far a judge agrees with people, by name: the mean of Cohen's kappa over them, and Krippendorff's alpha.

    None where nothing was judged by both. A judge fails below LEAST_KAPPA, if there are enough to tell.
    """
    from nltk.metrics.agreement import AnnotationTask

    kappas, counts, data = [], 0, [("the judge", key, said) for key, said in judge.items()]
    for name, labels in people.items():
        both = [key for key in labels if key in judge]
        counts += len(both)
        data += [(f"reader {name}", key, labels[key]) for key in both]
        if both:
            pairs = [("a", key, judge[key]) for key in both] + [("b", key, labels[key]) for key in both]
            kappas.append((len(both), _chance_corrected(AnnotationTask(data=pairs).kappa)))
    if not counts:
        return None
    told = [(weight, kappa) for weight, kappa in kappas if kappa is not None]
    mean = sum(w * k for w, k in told) / sum(w for w, _ in told) if told else None
    judged = {key for labels in people.values() for key in labels if key in judge}
    shared = AnnotationTask(data=[row for row in data if row[1] in judged])
    ok = counts < FEWEST_LABELS or (mean is not None and round(mean, 6) >= LEAST_KAPPA)
    return Agreement(judged_by_both=counts, kappa=mean, alpha=_chance_corrected(shared.alpha), ok=ok)


def _chance_corrected(figure: object) -> float | None:
    """The figure; None where all say one and the same, so that agreement by chance is all there can be."""
    try:
        found = float(figure())  # type: ignore[operator]
    except (ZeroDivisionError, ValueError):
        return None
    return found if math.isfinite(found) else None
