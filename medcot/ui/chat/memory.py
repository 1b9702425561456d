"""What is said of the model's memory: which one is in it, why it left, or who has the device."""

from medcot.jobdirs import JobDir
from medcot.ui import components as c
from medcot.ui.page import Client


def told(client: Client, busy: JobDir | None) -> str:
    loaded = client.loaded
    if loaded and loaded.remote:
        line = f"Connected to {c.text(loaded.device)}. No model is in memory here."
    elif loaded:
        line = (
            f"In memory: {c.text(loaded.run)}, on {c.text(loaded.device)}. It leaves after five "
            "minutes without a question, or as soon as a training or an evaluation waits for the device."
        )
    elif busy:
        line = f"{c.text(busy.path.name)} uses the device now. Chat can answer when it has ended or been stopped."
    elif client.unloaded:
        line = f"The model has left the memory: {c.text(client.unloaded.reason)}. The next question loads it again."
    else:
        line = "No model is in memory. The first question loads it, which takes some seconds."
    return f'<p class="mc-soft" id="memory">{line}</p>' + c.warnings(loaded.warnings if loaded else [])
