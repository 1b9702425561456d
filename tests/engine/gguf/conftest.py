"""A trained tiny run and what it was exported to, made once for the tests of a file."""

import pytest

from medcot.adapters.open import of_run
from medcot.settings import build
from medcot.settings.export import export_order
from medcot.workers.protocol import ExportRequest
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import changed, train


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("gguf")
    settings = build(tiny_raw(tiny_model, write_records(folder / "records.jsonl")))
    return train(folder / "runs", changed(settings, "training", max_steps=25))


@pytest.fixture(scope="module")
def file(run):
    """The run as a file; it was not asked anything."""
    from medcot.engine.gguf.export import export

    request = ExportRequest(
        adapter=of_run(run), target=run.path.parent / "shipped", order=export_order("gguf", ["f16"], questions=0)
    )
    return request.target / export(request, lambda event: None).files[0].name
