"""Build the book into _build/html: warnings are errors, then the built pages are checked."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import check_site

ROOT = Path(__file__).resolve().parent.parent


def main():
    start = time.time()
    program = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if program is None:
        sys.exit("jupyter-book is not installed beside this Python: run make book")
    command = [program, "build", ".", "-W", "-n", "--keep-going"]
    print("Executing the notebooks and building the book: jupyter-book", *command[1:], flush=True)
    quiet = {**os.environ, "TQDM_DISABLE": "1"}  # progress is for someone who waits, not for a page
    if subprocess.run(command, cwd=ROOT, env=quiet).returncode:
        # Sphinx remembers the pages it has read, warnings or not: forget them, or the next build would pass.
        shutil.rmtree(ROOT / "_build" / ".doctrees", ignore_errors=True)
        sys.exit("The book was not built: see the first warning or error above.")
    if check_site.main() != 0:
        sys.exit(1)
    page = (ROOT / "_build" / "html" / "index.html").as_uri()
    print(f"Built in {time.time() - start:.0f} s. Open {page}")


if __name__ == "__main__":
    main()
