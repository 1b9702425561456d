"""judge: a model says of an evaluation's answers whether they are right, once it has shown that it can tell."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from medcot.cli import options as o
from medcot.cli.evaluate import LATEST, one_of, show
from medcot.errors import BadInput, Problem, collected

if TYPE_CHECKING:
    from medcot.evaluation.answers import Example
    from medcot.evaluation.judge.examination import Cost
    from medcot.evaluation.judge.labels import Label
    from medcot.runs.judging import Given
    from medcot.runs.run import Evaluation, Run
    from medcot.settings.judging import JudgeOrder


def judge(
    run: o.RunId = LATEST,
    evaluation: Annotated[str, Option(help="A finished evaluation's id, a part of it, or 'latest'.")] = LATEST,
    endpoint: Annotated[
        str | None, Option(metavar="URL", help="An OpenAI-compatible server; its key is read from MEDCOT_ENDPOINT_KEY.")
    ] = None,
    model: Annotated[str | None, Option(metavar="NAME", help="The judge's model name on the server.")] = None,
    judge_model: Annotated[
        str | None, Option(metavar="NAME", help="A judge on this machine: a folder, OWNER/NAME[@revision], 'starter'.")
    ] = None,
    how: Annotated[
        str, Option(help="reference: against the reference; rubric; pair: base beside tuned.")
    ] = "reference",
    rubric: Annotated[
        Path | None, Option(help="With --how rubric: criteria with points, in HealthBench's layout.")
    ] = None,
    reasoning: Annotated[bool, Option("--reasoning", help="Judge the reasoning too, step by step.")] = False,
    labels: Annotated[
        Path | None, Option(help="What people said: lines of record, arm, verdict, and reader if there are several.")
    ] = None,
    concurrency: Annotated[int, Option(help="Requests at once.")] = 8,
    max_new_tokens: Annotated[int, Option(help="For one verdict; a judge that thinks needs thousands.")] = 512,
    estimate: Annotated[bool, Option("--estimate", help="Only say how much will be asked.")] = False,
    price: Annotated[
        str | None, Option(metavar="IN,OUT", help="The price of a million tokens sent and got, for the estimate.")
    ] = None,
    resume: Annotated[
        str | None, Option(metavar="EVALUATION", help="Go on with a judging that ended early; 'latest' is the newest.")
    ] = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Have a model judge an evaluation's answers. It is tried on known ones first, and counts only if it can tell."""
    from medcot.cli import display
    from medcot.runs import judging
    from medcot.settings.judging import judge_order
    from medcot.workers import jobs

    found = o.store(runs_dir).get(run)
    if resume:
        chosen = one_of(found, resume)
        judging.order_of(chosen)
        jobs.resume_evaluation(chosen)
    else:
        chosen = _chosen(found, evaluation)
        asked = {"how": how, "reasoning": reasoning, "concurrency": concurrency, "max_new_tokens": max_new_tokens}
        problems: list[Problem] = []
        order = given = prices = None
        with collected(problems):
            order = judge_order(endpoint, model, judge_model, **asked)
        with collected(problems):
            given = _given(how, rubric, labels, judging.require_answers(found, chosen)[1])
        with collected(problems):
            prices = _prices(price)
        if problems or order is None or given is None:
            raise BadInput(problems)
        cost = _cost(found, chosen, order, given)
        words = _words(cost, prices)
        if estimate:
            o.say(as_json, {**cost._asdict(), **({"price": cost.price(prices)} if prices else {})}, words)
            return
        display.err.print(words, soft_wrap=True)
        jobs.start_judging(found, chosen, order, given)
    o.follow_or_exit(chosen, "Judging", found, as_json)
    show(found, chosen, as_json, evaluation=chosen.id)


def _chosen(run: "Run", name: str) -> "Evaluation":
    """The evaluation by name; 'latest' is the newest of held-out records that is finished."""
    from medcot.evaluation.records import Records

    if name != LATEST:
        return one_of(run, name)
    done = (e for e in run.evaluations() if (summary := e.summary()) and summary.measure is Records)
    return next(done, None) or one_of(run, name)


def _given(how: str, rubric: Path | None, labels: Path | None, examples: "list[Example]") -> "Given":
    """What the named files hold. Raises BadInput with all their problems."""
    from medcot.evaluation.judge import labels as people
    from medcot.evaluation.judge import rubric as criteria
    from medcot.runs.judging import Given, arms_by_record

    read, said, problems = None, list["Label"](), list[Problem]()
    if (how == "rubric") != (rubric is not None):
        what = "is missing." if rubric is None else f"belongs to --how rubric, not to --how {how}."
        problems.append(Problem("--rubric", what, "Give both: --how rubric --rubric FILE"))
    if rubric:
        with collected(problems):
            read = criteria.load(rubric)
            criteria.require_some(read, (e.question for e in examples))
    if labels:
        with collected(problems):
            said = people.load(labels, arms_by_record(examples))
    if problems:
        raise BadInput(problems)
    return Given(read, said)


def _prices(price: str | None) -> tuple[float, float] | None:
    if price is None:
        return None
    try:
        sent, got = (float(part) for part in price.split(","))
    except ValueError:
        sent = got = -1.0
    if not (0 <= sent < 1e6 and 0 <= got < 1e6):
        raise BadInput.of("--price", f"{price!r} is not two prices.", "Give such as --price 0.15,0.60")
    return sent, got


def _cost(run: "Run", evaluation: "Evaluation", order: "JudgeOrder", given: "Given") -> "Cost":
    from medcot.evaluation.judge.examination import Cost
    from medcot.runs import judging

    costs = [e.cost() for e in judging.examinations(run, order, given, *judging.require_answers(run, evaluation))]
    return Cost(*(sum(part) for part in zip(*costs, strict=True)))


def _words(cost: "Cost", prices: tuple[float, float] | None) -> str:
    words = f"At most {cost.requests} requests, about {cost.tokens_in:,} tokens sent and {cost.tokens_out:,} got"
    price = f", {cost.price(prices):.2f} in the currency of your prices" if prices else ""
    return f"{words}{price}. What was asked before is not asked again."
