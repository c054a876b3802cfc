"""The page: complete, self-contained, honest about what is missing."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from report.__main__ import main
from report.figures.pictures import error_window, site_panels
from report.numbers.analysis import analyse
from report.page.render import render_page
from report.page.summary import summary
from report.run.folder import read_run


def page_of(folder: Path) -> str:
    return render_page(analyse(read_run(folder)))


def summary_of(folder: Path) -> str:
    return " ".join(summary(analyse(read_run(folder))))


class Addresses(HTMLParser):
    """Collects what a browser would fetch, and unclosed elements."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts = 0
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.scripts += tag == "script"
        self.fetched += [value for key, value in attrs if key in ("src", "href", "srcset")]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_command_prints_the_table_and_writes_a_page(write_run, curves, slices, capsys):
    folder = write_run(curves=curves, slices=slices)
    assert main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"FEDAVG +25.00 ± 2.00\* +27.00 ± 1.41\* +25.80 ± 1.92\*", printed)
    assert (folder / "report.html").stat().st_size > 10_000
    assert not [path for path in folder.iterdir() if path.name.startswith(".writing")]


def test_the_page_fetches_nothing_runs_nothing_and_is_well_formed(write_run, curves, slices):
    text = page_of(write_run(curves=curves, slices=slices))
    parser = Addresses()
    parser.feed(text)
    assert parser.open == [] and parser.scripts == 0
    assert all(a.startswith(("data:image/", "#")) for a in parser.fetched)
    assert "url(" not in text and "@import" not in text
    anchors = {a[1:] for a in parser.fetched if a.startswith("#")}
    assert anchors <= set(re.findall(r'id="([^"]+)"', text))


def test_the_parts_stand_in_the_promised_order(write_run, curves, slices):
    text = page_of(write_run(curves=curves, slices=slices))
    marks = ["<h1>", "summary", "banner", 'id="results"', 'id="cross-site"', 'id="statistics"']
    marks += ['id="curves"', 'id="action"', 'id="pictures"', 'id="provenance"']
    places = [text.index(mark, text.index("<body>")) for mark in marks]
    assert places == sorted(places)


def test_the_same_run_gives_the_same_page(write_run, curves, slices):
    folder = write_run(curves=curves, slices=slices)
    assert page_of(folder) == page_of(folder)


def test_names_from_the_run_are_escaped(write_run):
    text = page_of(write_run())
    assert "Two sites &amp; one &lt;unseen&gt;" in text and "<unseen>" not in text


HOSTILE = "$\\bad$ </style></title>\"><script>alert(1)</script><img src=x onerror=y>' onload='x<b>&"


def test_no_text_of_a_run_can_become_markup(write_run, about, results, curves, slices):
    payload = HOSTILE
    plain = Addresses()
    plain.feed(page_of(write_run(about, results, curves, slices)))
    about |= {"title": payload, "data_note": payload, "created": payload}
    about["experiment"] |= {payload: {payload: payload}}
    for part in ("preset", "machine", "versions", "manifests"):
        about[part][payload] = payload
    about["sites"][0] |= {"name": payload, "description": payload}
    about["arms"] = [arm for arm in about["arms"] if arm["name"] != "local-a"]
    about["arms"][-1] |= {"label": payload, "does": payload, "note": payload}
    results = results[results["arm"] != "local-a"].replace(
        {"site": {"a": payload}, "subject": {"a1": payload}, "metric": {"mae": payload}}
    )
    curves = curves[curves["arm"] != "local-a"].replace({"site": {"a": payload}})
    curves["metric"] = curves["metric"].replace("fedprox/ratio_generator", payload)
    ratio = [("fedprox", "b", 1, "strategy/ratio_generator", 0.5)]
    curves = pd.concat([curves, pd.DataFrame(ratio, columns=curves.columns)])
    text = page_of(write_run(about, results, curves, None))
    parser = Addresses()
    parser.feed(text)
    assert parser.open == [] and parser.scripts == 0
    assert parser.elements <= plain.elements and parser.attributes <= plain.attributes
    assert all(a.startswith(("data:image/", "#")) for a in parser.fetched)
    assert unescape(text).count(payload) > 15


def test_computed_is_said_in_the_banner_and_in_every_picture_caption(write_run, slices):
    text = page_of(write_run(slices=slices))
    assert "Computed data." in text and "Phantoms only." in text
    captions = re.findall(r"(?s)<figcaption>(.*?)</figcaption>", text)
    assert len(captions) == 3 and all("computed" in caption for caption in captions)


def test_acquired_data_is_never_called_computed(write_run, about, curves, slices):
    about["computed"] = False
    text = page_of(write_run(about=about, curves=curves, slices=slices))
    assert "computed" not in text.lower()


def test_missing_curves_and_slices_are_said(write_run):
    text = page_of(write_run())
    assert "has no curves.csv" in text and "has no slices.npz" in text


def test_missing_metrics_of_curves_are_said(write_run, curves):
    text = page_of(write_run(curves=curves[curves["metric"] == "val/psnr"]))
    assert "curves.csv holds no val/ssim" in text and "holds no training losses" in text


def test_a_run_without_federated_arms_or_unseen_site_is_reported(write_run, about, results, slices):
    about["arms"] = [arm for arm in about["arms"] if not arm["name"].startswith("fed")]
    about["sites"] = about["sites"][:2]
    kept = results[~results["arm"].str.startswith("fed") & (results["site"] != "u")]
    text = page_of(write_run(about=about, results=kept, slices=slices))
    assert "no federated arm" in text and "Unseen" not in text


def test_source_in_the_results_but_not_in_run_json_still_has_its_row(write_run, about):
    about["arms"] = about["arms"][1:]
    assert "Source (input copied)" in page_of(write_run(about=about))


def test_an_arm_of_a_later_strategy_gets_its_own_row(write_run, about, results):
    about["arms"][-1] |= {"name": "scaffold", "label": "SCAFFOLD"}
    text = page_of(
        write_run(about=about, results=results.replace({"arm": {"fedprox": "scaffold"}}))
    )
    assert '<tr class="federated"><th scope="row">SCAFFOLD</th>' in text


def test_too_few_patients_are_said_instead_of_a_claim(write_run):
    text = summary_of(write_run())
    assert "none can be called significant" in text
    assert "better" not in text and "worse" not in text


def many_patients(results, shift: float):
    """Twelve patients of site a; fedavg beats the centralised arm by ``shift`` dB in each."""
    base = results[(results["split"] == "test") & (results["site"] == "a")]
    rows = [base[base["subject"] == "a1"].assign(subject=f"p{i:02d}") for i in range(12)]
    table = np.concatenate([row.to_numpy() for row in rows])
    frame = base.iloc[:0].reindex(range(len(table)))
    frame[:] = table
    number = frame["subject"].str[1:].astype(int)
    psnr = frame["metric"] == "psnr"
    chosen = psnr & (frame["arm"] == "fedavg")
    # different sizes of difference, all of one sign: no ties
    frame.loc[psnr & (frame["arm"] == "centralised"), "value"] = 20.0
    frame.loc[chosen, "value"] = 20.0 + shift * (1 + number[chosen] / 100)
    return frame


@pytest.mark.parametrize(("shift", "word"), [(1.0, "better"), (-1.0, "worse")])
def test_the_summary_turns_with_the_numbers(write_run, about, results, shift, word):
    about["sites"] = about["sites"][:1]
    about["arms"] = [a for a in about["arms"] if a["name"] in ("centralised", "fedavg")]
    rows = many_patients(results, shift)
    rows = rows[rows["arm"].isin(["centralised", "fedavg"])]
    text = summary_of(write_run(about=about, results=rows))
    # the twelve differences are shift x 1.00 ... 1.11, their median is 1.055 shift
    assert re.search(rf"FEDAVG is {word} than CENTRALISED by 1\.0[56] dB \(p < 0\.001\)", text)
    assert {"better": "worse", "worse": "better"}[word] not in text


def test_worst_median_and_best_follow_the_first_federated_arm(write_run, slices):
    run = read_run(write_run(slices=slices))
    panels = {panel.site.name: panel for panel in site_panels(run, analyse(run).featured)}
    chosen = [(p.chosen.role, p.chosen.subject) for p in panels["a"].patients]
    assert chosen == [("worst", "a1"), ("median", "a2"), ("best", "a3")]
    assert [p.chosen.role for p in panels["b"].patients] == ["worst", "best"]


def test_the_local_picture_is_the_own_model_or_that_of_the_largest_site(write_run, slices):
    run = read_run(write_run(slices=slices))
    panels = {panel.site.name: panel for panel in site_panels(run, analyse(run).featured)}
    arms = {site: [column.arm.name for column in panel.columns] for site, panel in panels.items()}
    assert arms["a"][0] == "local-a" and arms["b"][0] == "local-b"
    assert arms["u"][0] == "local-b"  # 9 training patients against 3
    assert arms["u"][1:] == ["centralised", "fedavg", "fedprox"]


def test_one_window_covers_all_error_maps_in_steps_of_five_hundredths(write_run, slices):
    slices["b/b1/fedavg"] = slices["b/b1/mask"] * np.float16(0.42)  # |0.42 - 0.60| = 0.18
    run = read_run(write_run(slices=slices))
    panels = site_panels(run, analyse(run).featured)
    assert error_window(panels) == 0.2
    assert page_of(run.folder).count('alt="colour bar from 0 to 0.2"') == 7


def test_errors_outside_the_mask_are_not_shown(write_run, slices):
    slices["a/a1/fedavg"] = np.ones((40, 32), dtype=np.float16)
    run = read_run(write_run(slices=slices))
    patient = site_panels(run, analyse(run).featured)[0].patients[0]
    error = patient.errors()[2]
    assert error[0, 0] == 0 and error[20, 16] == pytest.approx(0.4, abs=1e-3)


def test_the_lesion_is_enlarged_only_where_there_is_one(write_run, slices):
    text = page_of(write_run(slices=slices))
    # source, target and four predictions of patient a1
    assert text.count('alt="lesion, enlarged"') == 6


def test_a_missing_prediction_is_said_in_its_cell(write_run, slices):
    del slices["a/a1/fedavg"]
    assert page_of(write_run(slices=slices)).count("not stored") == 3  # image, error, lesion


def test_fewer_evaluated_patients_than_run_json_counts_are_said(write_run, about):
    about["sites"][0]["test"] = 5
    assert "a (3 of 5)" in page_of(write_run(about=about))


def test_nested_settings_hashes_and_seed_are_in_the_provenance(write_run):
    text = page_of(write_run())
    assert "<dt>generator.depth</dt><dd>5</dd>" in text
    assert "f" * 64 in text and "<dt>seed</dt><dd>3</dd>" in text and "1 min 01 s" in text


def test_the_training_slices_that_each_site_stated_stand_in_the_table_of_sites(write_run, curves):
    stated = [("fedavg", "a", 1, 565.0), ("fedavg", "b", 1, 79.0), ("fedprox", "b", 1, 80.0)]
    rows = [(arm, site, number, "data/samples", value) for arm, site, number, value in stated]
    more = pd.DataFrame(rows, columns=curves.columns)
    text = page_of(write_run(curves=pd.concat([curves, more], ignore_index=True)))
    table = text[text.index("Table 5.") : text.index("Table 6.")]
    cells = re.findall(r"<td>([^<]*)</td>\n</tr>", table)
    assert [unescape(cell) for cell in cells] == ["565", "79 to 80", "\u2013"]
    assert "data/samples" not in text
