# Settings of nbgrader for this book's chapters; `make nbgrader` puts them into the course's folder.
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

c = get_config()  # noqa: F821 (nbgrader defines it)
c.CourseDirectory.course_id = "what-and-where"
# A stub holds more than nbgrader's own would: a signature, an example, what the answer should be.
c.ClearSolutions.enabled = False
# The default, half a minute for each cell, is too short for some on a busy machine.
c.Execute.timeout = 600
c.Execute.iopub_timeout = 60
# Chapters read ../data, so they run where the book has them, wherever the course lies.
notebooks = Path(find_spec("whatwhere").origin).parents[2] / "notebooks"
c.Execute.extra_arguments = [f"--IPKernelApp.exec_lines=import os; os.chdir({str(notebooks)!r})"]
# A student's run is no measurement of the book; a check's cell that warns earns nothing; and
# threads that wait by spinning make a busy machine several times slower.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "WHATWHERE_CLAIMS": tempfile.mkdtemp(),
    "PYTHONWARNINGS": "ignore",
    "TQDM_DISABLE": "1",
}
