"""A `make` for a DataJoint table of fits: one entry for each recording and set of parameters, the model in a file.

In your schema the class is a `dj.Computed` table and `insert1` its own; nothing else changes:

    @schema
    class LatentDynamics(LatentDynamicsMake, dj.Computed):
        definition = '''
        -> Recording        # has `path`
        -> FitParameters    # has `study`, the text of a study in TOML
        ---
        run_key   : char(16)      # of the content of the recording and of the study
        score     : double        # nats per time bin of held-out trials
        nonlinear : varchar(16)   # supported, not supported, undecided, cannot be judged
        verdict   : varchar(2000)
        results   : varchar(500)  # path of the NWB file for lr.load_model and lr.read_results
        '''
"""

import tomllib
from pathlib import Path
from typing import Any

import nwb_lrrnn as lr


class LatentDynamicsMake:
    """What the table does for each key; `store` is the folder of all runs."""

    store = Path("fits")

    def fetch_source(self, key: dict[str, Any]) -> tuple[str, str]:
        """Return path and study of a key: `(Recording * FitParameters & key).fetch1("path", "study")` in DataJoint."""
        raise NotImplementedError

    def make(self, key: dict[str, Any]) -> None:
        """Fit one recording; what the store holds already is not fitted again, after a rollback too."""
        path, study = self.fetch_source(key)
        table = lr.run_batch(path, tomllib.loads(study), out=self.store, n_workers=1, resume=True)
        row = table.iloc[0]
        if row["status"] != "done":
            raise RuntimeError(f"{path}: {row['sentence']}")  # DataJoint notes it in its table of jobs
        names = ("score", "nonlinear", "verdict", "results")
        self.insert1({**key, "run_key": row["key"], **{name: row.get(name) for name in names}})

    def insert1(self, row: dict[str, Any]) -> None:
        """Keep a row; DataJoint's own method in a schema."""
        raise NotImplementedError
