"""What a run is: its fields (`inputs`, `schema`), settings from plain values (`build`), what a name means (`names`)."""

from medcot.settings.build import (
    BadSettings,
    as_written,
    build,
    endless_warmup,
    fields,
    idle_choice,
    message_of,
    needs_peft,
)
from medcot.settings.extras import (
    BACKENDS,
    TRACKERS,
    TrackerName,
    backend_for,
    backend_problem,
    tracker_problems,
)
from medcot.settings.inputs import (
    PARTS,
    DataSettings,
    ModelSettings,
    Overlong,
    Part,
    PromptSettings,
    PromptStyle,
)
from medcot.settings.names import (
    DATA_SUFFIXES,
    HUB_NAME,
    PACKED,
    STARTER,
    data_suffix,
    is_folder,
    is_local_data,
    is_local_model,
    is_path,
)
from medcot.settings.recipes import cautions
from medcot.settings.schema import (
    ALL_LINEAR,
    EvaluationSettings,
    LoraSettings,
    RunSettings,
    TrainingSettings,
)
from medcot.settings.sources import FurtherSource, as_line
