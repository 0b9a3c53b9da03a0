"""Every distribution of the repository, built once."""

from __future__ import annotations

import pytest
from wheel_checks import FOLDERS, ROOT, build

pytest.importorskip("hatchling")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Return each distribution's wheel and sdist by the name of its folder; "" is the package itself."""
    into = tmp_path_factory.mktemp("dist")
    return {
        folder.name if folder != ROOT else "": build(folder, into / str(number))
        for number, folder in enumerate(FOLDERS)
    }
