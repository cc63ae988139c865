"""What pyproject.toml cannot say: a wheel brings the organisms and the photographs along, so that
load("toy-llava") and photographs.shipped() work without a clone."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ORGANISMS = ("toy-llava", "toy-qwen2vl")


class WithData(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:  # an editable installation reads those of the clone
            for name in ORGANISMS:
                target = Path(self.build_lib) / "whatwhere" / "organisms" / name
                shutil.copytree(Path("data/models") / name, target, dirs_exist_ok=True)
            target = Path(self.build_lib) / "whatwhere" / "photographs" / "shipped"
            shutil.copytree("data/photographs", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithData})
