"""The series that docs/forecasting.md makes, shorter, and the config that it shows: two documents go on from there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shape_checks import unchecked

NUM_DAYS = 200
_TEXT = (Path(__file__).parents[2] / "docs" / "forecasting.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with sales.csv and sales.yaml, and in it this module's tests."""
    folder = tmp_path_factory.mktemp("sales")
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.chdir(folder)
        patch.setenv("UNROLL_CACHE", str(folder / "cache"))
        (script,) = re.findall(r"^python - <<'END'\n(.*?)^END$", _TEXT, flags=re.DOTALL | re.MULTILINE)
        exec(compile(script, "docs/forecasting.md", "exec"), {})
        header, *rows = Path("sales.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        assert len(rows) == 6 * 1096
        few = [row for series in range(2) for row in rows[series * 1096 : series * 1096 + NUM_DAYS]]
        Path("sales.csv").write_text("".join([header, *few]), encoding="utf-8")
        config = re.findall(r"```yaml\n(.*?)```", _TEXT, flags=re.DOTALL)[0]
        Path("sales.yaml").write_text(config, encoding="utf-8")
        yield folder
