"""The LaTeX tables of a study's page, set by LaTeX itself where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import finished_study
import pytest

from report.document.outputs import study_outputs
from report.numbers.over_seeds.study import analyse_study
from report.run.study import read_study

needs_latex = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="LaTeX (pdflatex with booktabs) is not installed"
)
PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[margin=20mm]{geometry}
\usepackage{booktabs,longtable}
\begin{document}
"""
_TOO_WIDE = re.compile(r"Overfull \\hbox \((\d+)\.")
_MOST_POINTS = 10


@needs_latex
def test_latex_sets_every_table_of_a_study_without_an_error_and_within_the_margins(
    tmp_path: Path,
) -> None:
    study = analyse_study(read_study(finished_study.write(tmp_path / "study")))
    tables = {
        path.name: content.decode()
        for path, content in study_outputs(study, None).items()
        if path.suffix == ".tex"
    }
    assert len(tables) > 3
    # Each on a page of its own, and typed out by its name for the log.
    body = "".join(
        f"\\typeout{{at {name}}}\n{text}\\clearpage\n" for name, text in sorted(tables.items())
    )
    (tmp_path / "all.tex").write_text(PREAMBLE + body + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=60)
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Float too large" not in log
    for part in log.split("at table-")[1:]:
        for points in _TOO_WIDE.findall(part):
            assert int(points) <= _MOST_POINTS, part[:300]
