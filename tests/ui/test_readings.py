"""What the page makes of a job's figures and samples."""

from medcot.events import Sample
from medcot.ui.reading import Seen
from medcot.ui.train.readings import samples


def test_samples_that_their_budget_cut_count_as_far_as_they_go():
    whole, cut, other = "<think>a</think><response>b</response>", "<think>The pain is", "The pain is"
    seen = Seen(samples=[Sample(arm="tuned", question=o, output=o, step=5) for o in (whole, cut, other)])
    shown = samples(seen)
    assert "Step 5: 2 of 3 in the form so far, 1 complete" in shown
    assert shown.count("Format: cut short, in the form so far") == 1
    seen.samples = [s for s in seen.samples if s.output != cut]
    assert "Step 5: 1 of 2 in the form<" in samples(seen)
