"""The paper's experiments on a real model and real pictures, with our controls, claim by claim.

    whatwhere replicate Qwen/Qwen2-VL-2B-Instruct --data my-data --out results/qwen2-vl-2b

    study = replication.run("Qwen/Qwen2-VL-2B-Instruct", "results/qwen2-vl-2b", data="my-data")
    replication.table("results/qwen2-vl-2b")        # a verdict for each claim

An `Experiment` measures one or more claims of *Reading Images Like Texts*; its rules are part of
it, and were written before any real model was read. Everything goes to one folder, in parts, so
that a run that was killed goes on, and several processes (`accelerate launch`) share the work.
`DATA` says what lies where under `data`.
"""

from . import stand_in, tables, what, where  # the last three register theirs
from .experiment import EXPERIMENTS, Cost, Experiment, Finding, Scope, Verdict, chosen, register
from .running import plan, rows, run, table
from .study import DATA, Study

__all__ = [
    "Cost", "DATA", "EXPERIMENTS", "Experiment", "Finding", "Scope", "Study", "Verdict", "chosen",
    "plan", "register", "rows", "run", "stand_in", "table", "tables", "what", "where",
]  # fmt: skip
