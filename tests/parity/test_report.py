"""What `parity.html` says, read from its markup; `test_report_browser.py` looks at it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import re
from html.parser import HTMLParser

import pytest

from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity.report import render_html, view, write_html
from kokoro_coreml.parity.results import CAP, Check, Leg, Threshold
from tests.support.reports import (
    PACKAGE,
    device_report,
    empty_report,
    failed_report,
    operations,
    passed_report,
)

HOSTILE = "\"><script>alert('x')</script><img src=http://evil.example/ onerror=alert(1)>{{ 7*7 }}"
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Tags, attributes, ids and text of a page; every element must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text_of: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} stands twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.text_of.setdefault(tag, []).append(data)

    def text(self, tag: str = "body") -> str:
        return re.sub(r"\s+", " ", " ".join(self.text_of.get(tag, [])))

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def passed():
    report, listenings = passed_report()
    return Page(render_html(report, listenings))


@pytest.fixture(scope="module")
def failed():
    report, listenings = failed_report()
    return Page(render_html(report, listenings))


@pytest.fixture(params=["passed", "failed"])
def page(request):
    return request.getfixturevalue(request.param)


def hostile(value, depth=0):
    """Every free text of a report replaced by markup."""
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        fixed = {"verdict", "better", "runtime", "schema_version"}
        changed = {n: hostile(getattr(value, n)) for n in names if n not in fixed}
        return dataclasses.replace(value, **changed)
    if isinstance(value, tuple):
        return tuple(hostile(v) for v in value)
    if isinstance(value, dict):
        return {f"{HOSTILE}{k}": hostile(v) for k, v in value.items()}
    return HOSTILE if isinstance(value, str) else value


def test_nothing_is_asked_from_outside(page):
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "poster", "action", "data", "xlink:href")
    ]
    assert len(addresses) > 20
    assert {a.partition(":")[0] if a.startswith("data:") else a[0] for a in addresses} == {
        "data",
        "#",
    }
    assert "url(" not in page.text("style")
    assert "@import" not in page.text("style")


def test_the_policy_allows_the_inline_style_and_script_by_their_hashes_and_nothing_else():
    html = render_html(empty_report(), [])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert all(not re.search("unsafe|http|[*]", rule) for rule in rules.values())


def test_no_inline_style_or_handler_that_the_policy_would_block(page):
    for tag, attributes in page.elements:
        assert not [a for a in attributes if a == "style" or a.startswith("on")], tag


def test_markup_in_any_text_of_the_report_stays_text():
    report, listenings = failed_report()
    bad = hostile(report)
    cases = tuple(dataclasses.replace(c, name=f"{HOSTILE}{i}") for i, c in enumerate(bad.cases))
    heard = [dataclasses.replace(h, case=c.name) for h, c in zip(listenings, cases, strict=True)]
    page = Page(render_html(dataclasses.replace(bad, cases=cases), heard))
    assert len(page.every("script")) == 1
    assert not any("evil" in (a.get("src") or "") for _, a in page.elements)
    assert not [n for _, a in page.elements for n in a if n.startswith("on")]
    assert "alert('x')" in page.text("main")
    assert "{{ 7*7 }}" in page.text("main")
    assert {c for _, a in page.elements if "lang" in a for c in [a["lang"]]} <= {
        "en",
        "und",
        "und-fonipa",
    }


def test_the_page_is_built_for_everyone(page):
    assert page.every("html") == [{"lang": "en"}]
    assert len(page.every("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.every("caption")) == len(page.every("table")) > 5
    assert all(a.get("scope") in ("col", "row", "rowgroup", "colgroup") for a in page.every("th"))
    assert all(a.get("alt") for a in page.every("img"))
    assert all(a.get("aria-label") for a in page.every("audio"))
    drawings = [a for a in page.every("svg") if a.get("aria-hidden") != "true"]
    assert all(a.get("role") == "img" for a in drawings)
    assert all(a.get("aria-label") or a.get("aria-labelledby") for a in drawings)


def test_every_link_and_label_leads_somewhere_and_no_id_stands_twice(page):
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for a in page.every("a")]
    labels = [i for _, a in page.elements for i in (a.get("aria-labelledby") or "").split()]
    assert set(links) | set(labels) <= set(ids)


def test_a_pass_says_what_was_run_and_in_the_same_breath_what_was_not(passed):
    report, _ = passed_report()
    assert passed.text("h1") == "✓ Passed kokoro-82m"
    said = view.sentence(report)
    assert said in passed.text("p")
    assert "executor" in said
    assert "precision: declared" in said
    assert "3 cases" in said
    assert said.endswith("Core ML itself: not run.")
    assert "41.5 dB SNR" in said
    assert "upstream itself are 20.0 dB apart" in said


def test_a_failure_says_which_leg_by_how_much_and_where(failed):
    report, _ = failed_report()
    said = view.sentence(report)
    assert failed.text("h1") == "✗ Failed kokoro-82m"
    assert "“stages of the package” fails 1 of 24 checks" in said
    assert "stage SNR 8.2 dB in decoder, en-numbers, where ≥ 40 dB is asked" in said
    assert said.endswith("Core ML itself: not run.")


def test_core_ml_is_named_with_its_units_when_it_was_the_runtime():
    report, _ = passed_report()
    on_mac = dataclasses.replace(report, runtime="coreml", compute_units=("CPU_AND_NE", "ALL"))
    assert "on Core ML, CPU_AND_NE, ALL" in view.sentence(on_mac)
    assert "Core ML itself: not run" not in view.sentence(on_mac)
    assert "Part of Core ML's leg was not run" in view.sentence(on_mac)
    assert "not run" not in view.sentence(device_report()[0])


def test_a_leg_that_did_not_run_accuses_nothing():
    report, _ = passed_report()
    words = Leg("words", "not run", (), 0.0, "install the recogniser")
    said = view.sentence(dataclasses.replace(report, verdict="failed", legs=(*report.legs, words)))
    assert "not proven equal" in said
    assert "is not equal" not in said
    assert "Not run: words." in said


def test_legs_not_run_or_waived_are_named_in_the_sentence():
    report, _ = passed_report()
    odd = (Leg("speech", "not run", (), 0.0), Leg("old packages", "waived", (), 0.0, "iOS 16"))
    said = view.sentence(dataclasses.replace(report, legs=(*report.legs, *odd)))
    assert "Not run: speech." in said
    assert "Waived: old packages." in said


def test_a_failed_report_begins_with_its_suspects(failed):
    report, _ = failed_report()
    text = failed.text("main")
    assert text.strip().startswith("Suspects")
    for suspect in report.suspects:
        assert suspect.where in text
        assert suspect.evidence in text
    assert "not narrowed down to one" in text
    assert text.index("decoder_190_cast_fp16") < text.index("Worst check per leg")


def test_a_failed_number_is_marked_and_its_case_is_open(failed, passed):
    opened = [a["id"] for a in failed.every("details") if "open" in a]
    assert opened == ["case-1"]
    report, _ = failed_report()
    marked = [a for a in failed.every("td") if "out" in (a.get("class") or "").split()]
    in_overview_and_details = 2 * len(report.cases[0].failed)
    assert len(marked) == in_overview_and_details + 1
    assert not [a for a in passed.every("td") if "out" in (a.get("class") or "").split()]
    assert "out of bounds:" in failed.text("main")
    assert "out of bounds:" not in passed.text("main")


def test_every_leg_stage_case_threshold_and_version_is_shown(page):
    report, _ = passed_report()
    text = page.text("main")
    for leg in report.legs:
        assert leg.name in text
    for case in report.cases:
        assert case.name in text
        assert case.text in text
        assert case.phonemes in text
    for threshold in report.thresholds:
        assert threshold.reason in text
        assert threshold.metric in text
    for tool, version in report.versions.items():
        assert f"{tool} {version}" in text
    assert report.machine in text
    assert report.bundle.manifest_sha256 in text
    assert {s.name for s in report.stages} <= set(page.text("code").split())


def test_each_case_has_three_players_six_pictures_and_its_yardstick(passed):
    report, _ = passed_report()
    assert len(passed.every("audio")) == 3 * len(report.cases)
    assert all(a["src"].startswith("data:audio/flac;base64,") for a in passed.every("audio"))
    assert all(a["preload"] == "none" and "controls" in a for a in passed.every("audio"))
    pictures = [a for a in passed.every("img") if a.get("class") == "spectrogram"]
    waves = [a for a in passed.every("svg") if a.get("class") == "wave"]
    assert len(pictures) == len(waves) == 3 * len(report.cases)
    for view_of_case in view.cases(report):
        snr = next(c for c in view_of_case.cells if c.metric == "audio_snr_db")
        assert (snr.value, snr.bound, snr.failed) != (None, None, False)
        assert f"{snr.value} {snr.yardstick}" in passed.text("table")


def test_the_bound_of_a_case_is_that_of_the_leg_whose_checks_are_on_cases():
    report, _ = passed_report()
    bounds = view.case_bounds(report)
    assert bounds["audio_snr_db"].bound == 30.0
    assert bounds["audio_snr_db"].leg == PACKAGE


def test_a_bound_that_could_be_one_of_two_is_not_guessed():
    report, _ = passed_report()
    legs = tuple(dataclasses.replace(leg, checks=()) for leg in report.legs)
    bare = dataclasses.replace(report, legs=legs)
    assert "audio_snr_db" not in view.case_bounds(bare)
    assert "audio_snr_db" in view.overview_metrics(bare)


def check(value, bound, better="higher", metric="audio_snr_db", verdict="passed"):
    return Check(metric, f"at {value}", value, bound, better, verdict)


@pytest.mark.parametrize(
    ("checks", "worst"),
    [
        ([check(50, 35), check(40, 35), check(90, 35)], 40),
        ([check(0.1, 0.5, "lower"), check(0.4, 0.5, "lower")], 0.4),
        ([check(36, 35), check(20, 35, verdict="failed"), check(30, 35, verdict="failed")], 20),
        ([check(CAP, 35), check(-CAP, 35, verdict="failed")], -CAP),
    ],
)
def test_the_worst_check_is_the_one_nearest_or_furthest_beyond_its_bound(checks, worst):
    report, _ = passed_report()
    leg = Leg("leg", "passed", tuple(checks), 1.0)
    (row,) = view.legs(dataclasses.replace(report, legs=(leg,)))[0].rows
    assert row.worst.value == worst
    assert (row.count, row.failed) == (len(checks), sum(c.verdict == "failed" for c in checks))


def test_a_report_that_contradicts_itself_says_so_on_top():
    failing, _ = failed_report()
    lie = dataclasses.replace(failing, verdict="passed")
    found = view.contradictions(lie)
    assert any("leg “package = upstream” failed" in line for line in found)
    assert any("case “en-numbers” failed" in line for line in found)
    assert any("stage “decoder” failed" in line for line in found)
    assert "contradicts itself" in Page(render_html(lie, [])).text("header")
    assert view.contradictions(failing) == []
    assert view.contradictions(passed_report()[0]) == []


@pytest.mark.parametrize(
    ("leg", "said"),
    [
        (Leg("a", "passed", (check(20, 35),), 1.0), "20 dB is not ≥ 35 dB"),
        (Leg("a", "passed", (check(20, 35, verdict="failed"),), 1.0), "1 of its checks failed"),
        (Leg("a", "not run", (), 1.0), "no leg was run"),
    ],
)
def test_a_pass_that_does_not_follow_from_its_numbers_is_a_contradiction(leg, said):
    report, _ = passed_report()
    lines = view.contradictions(dataclasses.replace(report, legs=(leg,)))
    assert any(said in line for line in lines), lines


def test_a_threshold_nothing_was_measured_against_is_pointed_out():
    report, _ = passed_report()
    hole = Threshold("f0_error_hz", PACKAGE, 2.0, "lower", "Heard as out of tune.")
    more = dataclasses.replace(report, thresholds=(*report.thresholds, hole))
    assert view.unused_thresholds(more) == {(PACKAGE, "f0_error_hz")}
    assert "Nothing was measured against it." in Page(render_html(more, [])).text("table")
    assert view.unused_thresholds(report) == set()


def test_differing_words_are_marked_on_their_side(failed):
    assert failed.text("mark").split() == ["36", "back,", "sixty", "six"]
    assert "Speech recognition hears different words" in failed.text("main")


def test_run_times_are_the_middle_of_the_runs_and_their_ratio():
    report, _ = passed_report()
    (timing,) = view.timings(report)
    assert (timing.run, timing.eager) == (6.1, 5.1)
    assert timing.ratio == pytest.approx(6.1 / 5.1)
    bare = dataclasses.replace(report.timings[0], run_seconds=(), eager_seconds=())
    (timing,) = view.timings(dataclasses.replace(report, timings=(bare,)))
    assert (timing.run, timing.eager, timing.ratio) == (None, None, None)


def test_empty_parts_are_said_to_be_empty():
    text = Page(render_html(empty_report(), [])).text("main")
    for sentence in (
        "No case was run.",
        "No stage was compared.",
        "No operations were compared.",
        "Nothing was timed.",
        "There were no thresholds.",
        "No versions were recorded.",
        "The failure could not be located",
    ):
        assert sentence in text
    report, _ = passed_report()
    quiet = dataclasses.replace(report, legs=(), operations=operations(1))
    text = Page(render_html(quiet, [])).text("main")
    assert "No audio was kept of this case." in text
    assert "Speech recognition was not asked." in text
    assert "No leg was run." in text


def test_audio_of_an_unknown_case_or_of_one_case_twice_is_refused():
    report, listenings = passed_report()
    stray = dataclasses.replace(listenings[0], case="elsewhere")
    with pytest.raises(ParityError, match="'elsewhere', which is no case"):
        render_html(report, [stray])
    with pytest.raises(ParityError, match="'en-numbers' was given 2 times"):
        render_html(report, [listenings[0], listenings[0]])


def test_cases_of_one_name_keep_their_own_audio():
    report, listenings = device_report()
    html = render_html(report, listenings)
    players = re.findall(r'<audio[^>]+ src="([^"]+)"', html)
    assert len(players) == 3 * 6
    assert players[:9] == players[9:]
    assert len(set(players)) == 9


def test_audio_of_cases_of_one_name_is_not_guessed_when_one_is_missing():
    report, listenings = device_report()
    page = Page(render_html(report, listenings[1:]))
    assert len(page.every("audio")) == 3 * 4
    assert page.text("main").count("cannot be told apart") == 2


def test_values_out_of_range_are_summed_up_and_the_gravest_listed_first():
    report, _ = device_report()
    kinds = {k.kind: k for k in view.finding_kinds(report)}
    assert list(kinds) == ["overflow", "accumulator", "subnormal"]
    assert kinds["subnormal"].operations == 30
    assert kinds["overflow"].largest == 40_059.0
    assert sum(k.values for k in kinds.values()) == sum(f.count for f in report.findings)
    listed = view.findings(report)
    assert [f.kind for f in listed[:16]] == ["overflow"] * 15 + ["accumulator"]
    text = Page(render_html(report, [])).text("main")
    assert "The gravest 40 of 60 findings" in text
    assert "1,604" in text
    assert "93.0 %" in text


def test_a_stress_run_without_findings_says_so_and_other_runs_say_nothing():
    report, _ = passed_report()
    stress = dataclasses.replace(report, precision="stress")
    assert "No value came near a limit." in Page(render_html(stress, [])).text("main")
    assert "out of range" not in Page(render_html(report, [])).text("main")


def test_the_file_is_written_even_if_a_text_cannot_be_encoded(tmp_path):
    report, _ = passed_report()
    odd = dataclasses.replace(report.cases[0], text="half a \ud83d surrogate")
    path = tmp_path / "parity.html"
    write_html(path, dataclasses.replace(report, cases=(odd, *report.cases[1:])), [])
    assert "half a ? surrogate" in path.read_text(encoding="utf-8")


def test_equal_reports_give_equal_bytes():
    report, listenings = passed_report()
    assert render_html(report, listenings) == render_html(report, listenings)


def test_a_second_of_speech_costs_less_than_120_kilobytes_and_an_operation_300_bytes():
    report, listenings = passed_report()
    with_graph = dataclasses.replace(report, operations=operations(2192))
    bare = dataclasses.replace(report, operations=())
    seconds = sum(case.seconds for case in report.cases)
    sizes = [
        len(render_html(r, heard))
        for r, heard in ((bare, listenings), (bare, []), (with_graph, []))
    ]
    assert (sizes[0] - sizes[1]) / seconds < 120_000
    assert (sizes[2] - sizes[1]) / 2192 < 300
