"""What the page makes of a job's figures and samples."""

from medcot.runs.events import Sample
from medcot.ui.job_reader import Seen
from medcot.ui.train.open_run import samples


def test_samples_that_their_budget_cut_count_as_far_as_they_go():
    whole, cut, other = "<think>a</think><response>b</response>", "<think>The pain is", "The pain is"
    seen, without = Seen(), Seen()
    for output in (whole, cut, other):
        sample = Sample(arm="tuned", question=output, output=output, step=5)
        seen.fold(sample)
        without.fold(sample) if output != cut else None
    shown = samples(seen)
    assert "Step 5: 2 of 3 keep to the tags so far, 1 complete" in shown
    assert shown.count("Format: the sample ends here, with the tags right so far") == 1
    assert "Step 5: 1 of 2 keep to the tags<" in samples(without)
