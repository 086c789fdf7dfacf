"""The loss plot of a run, `loss.png`, drawn from rank 0's events. Takes a second and no display."""

from __future__ import annotations

import json
from pathlib import Path


def plot_loss(output_dir: Path) -> Path | None:
    """Draw training loss and validation loss against the step; None where no step was logged."""
    events = output_dir / "events" / "rank-00000.jsonl"
    if not events.is_file():
        return None
    training: dict[int, float] = {}  # by step: a resumed run repeats the steps after its checkpoint
    validation: dict[int, float] = {}
    for line in events.read_text("utf-8").splitlines():
        event = json.loads(line)
        if event.get("type") == "step" and event.get("loss") is not None:
            training[event["step"]] = event["loss"]
        elif event.get("type") == "evaluation":
            validation[event["step"]] = event["eval_loss"]
    if not training:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(list(training), list(training.values()), color="#1f77b4", linewidth=1.2, label="training")
    if validation:
        axes.plot(list(validation), list(validation.values()), "o-", color="#d62728", label="validation")
    axes.set(xlabel="optimizer step", ylabel="loss per target (nats)", title=output_dir.name)
    axes.grid(alpha=0.3)
    axes.legend()
    path = output_dir / "loss.png"
    figure.savefig(path, dpi=120)
    return path
