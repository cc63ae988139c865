"""Build the book into _build/html: execute the chapters that changed, warnings are errors, then
check the built pages."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools.course import execute
from tools.site import check_site

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = ROOT / "data" / "claims"


def main():
    start = time.time()
    program = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if program is None:
        sys.exit("jupyter-book is not installed beside this Python: run make book")
    # twice, since a chapter that reads the ledger is due again if a row has changed
    for _ in range(2):
        failed = execute.ensure()
        for path, error in failed.items():
            print(f"\n{path.name}\n{error}")
        if failed:
            sys.exit("The book was not built: a notebook failed, see above.")
        done = [execute.kept(path) for path in execute.NOTEBOOKS]
        for rows in (rows for each in done for rows in each.claims.iterdir()):
            shutil.copyfile(rows, CLAIMS / rows.name)  # what the ledger page shows
    command = [program, "build", ".", "-W", "-n", "--keep-going"]
    print("Building the book: jupyter-book", *command[1:], flush=True)
    quiet = {**os.environ, "TQDM_DISABLE": "1"}  # progress is for someone who waits, not for a page
    if subprocess.run(command, cwd=ROOT, env=quiet).returncode:
        # Sphinx remembers the pages it has read, warnings or not: forget them, or the next build
        # would pass.
        shutil.rmtree(ROOT / "_build" / ".doctrees", ignore_errors=True)
        sys.exit("The book was not built: see the first warning or error above.")
    if check_site.main() != 0:
        sys.exit(1)
    page = (ROOT / "_build" / "html" / "index.html").as_uri()
    print(f"Built in {time.time() - start:.0f} s. Open {page}")


if __name__ == "__main__":
    main()
