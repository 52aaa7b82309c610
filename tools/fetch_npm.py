"""Files of a package of npm"""

import subprocess
import tarfile
from pathlib import Path


def fetch(
    package,  # Name and version, as npm wants them: 'katex@0.16.11'
    folder,  # An empty folder
):  # The folder of the package's files
    "Fetch a package by npm and unpack it; nothing of it is executed"
    name = subprocess.run(
        ['npm', 'pack', '--silent', package], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()[-1]
    with tarfile.open(Path(folder) / name) as tar:
        tar.extractall(folder, filter='data')
    return Path(folder) / 'package'
