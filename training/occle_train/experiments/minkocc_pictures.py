# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`python -m occle_train.experiments.minkocc_pictures RUN... --data DATA --labels LABELS`: MinkOcc's Figs. 3 and 4 of a data set.

Fig. 3 (views.jpg): images, pseudo-labels and the predicted voxels rendered into the cameras, of the first run with a renderer.
Fig. 4 (maps.jpg): the truth, where there is one, and every run's prediction from above.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from occle_core import taxonomy
from occle_core.bundle import load_bundle
from occle_core.datasets import Dataset, DatasetError
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.predictor import Predictor
from occle_core.taxonomy import IGNORE
from occle_train.data.samples import open_all
from occle_train.data.truth import voxel_truth
from occle_train.experiments.label_efficiency.figures import draw_maps, draw_views
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import load_head, minkocc_config
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.runs.folder import LAST, read_record


def views(run: Path, datasets: Sequence[Dataset], labels: Path, frames: int, file: Path) -> bool:
    """Fig. 3 of a run's network; False where the run has no renderer."""
    record = read_record(run)
    config = FitConfig.model_validate(record.settings) if record.command == "fit" else FitConfig()
    if config.recipe is None or not config.recipe.num_views:
        return False
    spec, network, _ = load_bundle(run / LAST)
    assert isinstance(network, MinkOcc)
    classes = taxonomy.load(spec.taxonomy)
    # No voxel label is read, and nothing accumulated.
    recipe = config.recipe.model_copy(update={"alpha": 0.0})
    with tempfile.TemporaryDirectory() as cache:
        samples = RecipeSamples(datasets, spec.voxel_grid, minkocc_config(spec), recipe, LabelFolder(labels, classes), Path(cache))
        items = _spread(len(samples), frames)
        draw_views(file, network, load_head(spec, config, run), samples, items, classes)
    return True


def maps(runs: Sequence[Path], datasets: Sequence[Dataset], frames: int, file: Path) -> None:
    """Fig. 4 of several runs' networks on the same frames."""
    places = [(dataset, i) for dataset in datasets for i in range(len(dataset))]
    chosen = [places[item] for item in _spread(len(places), frames)]
    predictors = [Predictor.load(run / LAST) for run in runs]
    grid, classes = predictors[0].grid, predictors[0].taxonomy
    if any(predictor.grid != grid or predictor.taxonomy.name != classes.name for predictor in predictors):
        raise ValueError("the runs' networks have different grids or classes; draw them one by one")
    nothing = np.full(grid.shape, IGNORE, np.uint8)
    truths = [voxel_truth(dataset, i, grid) for dataset, i in chosen]
    columns = {} if all(truth is None for truth in truths) else {"truth": [nothing if t is None else t for t in truths]}
    for run, predictor in zip(runs, predictors):
        columns[run.name] = [predictor.predict_recorded(dataset, i).labels for dataset, i in chosen]
    draw_maps(file, columns, grid, classes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m occle_train.experiments.minkocc_pictures", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="finished run folders of occle-train fit")
    parser.add_argument("--data", type=Path, required=True, help="data set root")
    parser.add_argument("--labels", type=Path, help="2D pseudo-labels, for Fig. 3")
    parser.add_argument("--sequences", default="", help="comma-separated sequences; empty for all")
    parser.add_argument("--frames", type=int, default=3, help="frames of each picture, spread over the data")
    parser.add_argument("--out", type=Path, default=Path("out/pictures"), help="folder of the pictures")
    given = parser.parse_args(arguments)
    try:
        datasets = open_all(given.data, [name for name in given.sequences.split(",") if name])
        maps(given.runs, datasets, given.frames, given.out / "maps.jpg")
        print(f"wrote {given.out / 'maps.jpg'}")
        drawn = given.labels and any(
            views(run, datasets, given.labels, given.frames, given.out / "views.jpg") for run in given.runs
        )
    except (ValueError, OSError, DatasetError) as error:
        print(error, file=sys.stderr)
        return 1
    reason = "no run has a renderer" if given.labels else "it needs --labels"
    print(f"wrote {given.out / 'views.jpg'}" if drawn else f"views.jpg (Fig. 3) is not drawn: {reason}")
    return 0


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` numbers, evenly spread."""
    return sorted({round(k * (count - 1) / max(1, wanted - 1)) for k in range(min(wanted, count))})


if __name__ == "__main__":
    sys.exit(main())
