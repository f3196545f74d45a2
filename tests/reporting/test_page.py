"""The page of a run: what stands in it, and how a real browser takes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from rlstep.cli import look
from rlstep.losses.dpo import Dpo
from rlstep.measuring.monitors import Thresholds
from rlstep.reporting import page as page_module
from rlstep.reporting.page import render, write_page
from rlstep.reporting.panels import ALARMS, sections
from rlstep.reporting.plots import draw_by_position, draw_panel
from rlstep.reporting.recorded_run import Difference, RecordedRun, flat
from rlstep.reporting.reporter import Reporter
from rlstep.reporting.rows import rollout_rows
from rlstep.reporting.run_directory import RunDirectory
from rlstep.reporting.sinks import page as page_sink
from rlstep.reporting.sinks.files import Files
from rlstep.testing.small import small_config
from tests.reporting.browser import CHROMIUM, Page, browser_page
from tests.reporting.recorded import ITERATIONS, Oracle, conversation, groups, record_run

MARKUP = "<b>bold</b><script>window.taken = 1</script>\n"
"""A model's text, were it taken for markup."""

METRICS: Mapping[str, float] = {
    **{"rollout/rollouts": 4, "rollout/accuracy": 0.75, "rollout/without_signal": 0.5},
    **{"rollout/failures": 2, "rollout/failures/timeout": 2, "rollout/tokens_mean": 17.0},
    **{"train/loss": -0.01, "train/updates": 2, "train/grad_norm": 0.3, "train/seconds": 2.0},
    **{"prm/loss": 0.6, "prm/seconds": 3.0, "sync/seconds": 0.5, "sync/parity_error": 1e-6},
    **{"time/collect": 4.0, "time/score": 1.0, "time/train": 3.0, "time/iteration": 10.0},
    **{"monitor/false_good": 0.6, "alarm/false_good": 1.0, "monitor/step_score/0": 0.5},
    **{"monitor/step_score/1": 0.4, "monitor/unparsable": 0.0, "alarm/unparsable": 0.0},
    **{"weights/unmoved": 0.5, "alarm/unmoved": 0.0},
}
EVALUATED: Mapping[str, float] = {
    **{"eval/accuracy": 0.25, "eval/problems": 8, "time/evaluation": 1.5, "eval/failures": 0},
    **{"prm/auc": 0.7, "prm/auc_position": 0.4, "prm/ece": 0.2, "prm/drift": 0.1},
    **{"prm/auc_at/0": 0.6, "prm/auc_at/2": 0.8, "prm/outcome_auc_at/0": 0.55},
    **{f"prm/reliability/0.{i}/{what}": v for i in (2, 7) for what, v in
       (("score", i / 10 + 0.05), ("share", i / 10), ("number", 30.0))},
}  # fmt: skip


def a_run(root: Path, name: str = "demo", text: str = MARKUP) -> RunDirectory:
    """A run with every kind of metric, whose model writes markup."""
    run = RunDirectory.create(root, name)
    recipe = small_config(name="recipe")
    config = replace(recipe, name=name, loss=Dpo(beta=0.25))
    with Reporter(
        run, config, iterations=ITERATIONS, recipe=recipe, oracle=Oracle(), sinks=[Files()]
    ) as reporter:
        reporter.iteration({"iteration": 0, **EVALUATED})
        for iteration in range(1, ITERATIONS + 1):
            made = groups(iteration, ["1+1=2\n", f"2+2=x {text}", "#4"])
            reporter.iteration({"iteration": iteration, **METRICS}, made)
        reporter.iteration({"iteration": ITERATIONS, **EVALUATED, "eval/accuracy": 0.5})
        reporter.add_to_summary(complete=True)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    directory = a_run(tmp_path_factory.mktemp("runs"))
    write_page(directory)
    return directory


@pytest.fixture(scope="module")
def html(run: RunDirectory) -> str:
    return run.report.read_text()


# --- what stands in it ---------------------------------------------------------------------------


def plain(html: str) -> str:
    """The page's text, white space made one."""
    body = html[html.index("<body>") : html.index("<script>")]
    body = re.sub(r"<svg.*?</svg>", "", body, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body.replace("<wbr>", "")).split())


@pytest.mark.parametrize(
    "words",
    [
        "demo complete",
        "held-out accuracy 25.0% → 50.0%",
        "time of iterations 0:00:30",
        "alarms false_good failures 6",
        "false_good chains that the scores call good and the verifier not correct 0.600 0.5 1 to 3",
        "drift mean move of the PRM&#39;s scores on the frozen probe 0.100 0.5 none",
        "exactly what they were at the last look 0.500 0.95 none",
        "Failures by reason timeout 6",
        "generators and verifiers: sampling 12.0 40 %",
        "step models and labellers: scoring 3.0 10 %",
        "learners and weight sync: training 9.0 30 %",
        "the rest: building samples, metrics 6.0 20 %",
        "of training: policy learner 6.0 20 %",
        "of training: weight sync 1.5 5 %",
        "beside the iterations: evaluations 3.0 10 %",
        "Calibration, steps At the end right: 20% of score 0.25, 70% of score 0.75.",
        "AUC by position, last evaluation by the oracle 0.60, 0.80; by verdict 0.55",
        "Score by position iteration 1 0.50, 0.40; iteration 3 0.50, 0.40",
        "12 of 12: of iterations 3, 2, 1",
        "Steps have the score of prm from 0 to 1: bad poor unsure fair good",
        "wrong answer #4",
        "first error at step 2",
        "first error, by the task&#39;s own check",
        "3/mixed-3/0 · ended by stop",
        "prm failed: timeout",
        "failed: generator_lost: a node went away",
        "loss.beta 0.1 0.25",
        "name recipe demo",
    ],
)
def test_the_page_says(words: str, html: str):
    assert words in plain(html)


def test_only_what_differs_from_the_recipe_is_told(run: RunDirectory):
    assert RecordedRun.read(run).differences() == [
        Difference(field="name", recipe="recipe", run="demo"),
        Difference(field="loss.beta", recipe="0.1", run="0.25"),
    ]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"a": 1, "b": "x"}, [("a", "1"), ("b", "x")]),
        ({"a": {"class": "m.A", "b": None}}, [("a", "m.A"), ("a.b", "null")]),
        ({"a": [1, 2]}, [("a", "[1, 2]")]),
        ({"a": []}, [("a", "[]")]),
        ({"a": [{"class": "m.A"}, {"b": 0.5}]}, [("a.0", "m.A"), ("a.1.b", "0.5")]),
        ({"class": "m.C", "a": True}, [("class", "m.C"), ("a", "true")]),
    ],
)
def test_a_configuration_is_told_field_by_field(config: Any, expected: list[tuple[str, str]]):
    assert list(flat(config)) == expected


def test_a_models_text_is_text(html: str):
    assert "&lt;b&gt;bold&lt;/b&gt;&lt;script&gt;window.taken = 1&lt;/script&gt;" in html
    assert html.count("<script>") == 1 and "<b>" not in html


def test_every_watched_figure_has_its_words():
    assert set(ALARMS) == {field.name for field in fields(Thresholds)}


def test_nothing_is_asked_of_anyone(html: str):
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search(r"(src|href|action)=\"(?!#|data:)", without_names)
    assert not re.search(r"https?://|@import|url\((?!#)", without_names)


def test_every_id_is_there_once(html: str):
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) > 100
    assert set(re.findall(r'href="#([^"]*)"', html)) <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) <= set(ids)


def test_half_a_character_and_a_number_that_is_none_make_a_page(tmp_path: Path):
    run = record_run(tmp_path)
    *_, last = run.rollouts
    run.rollouts.append({**last, "answer": "\ud83d", "prompt": "\x1b"})
    run.metrics.append({"iteration": 3, "train/loss": float("nan"), "prm/auc": float("inf")})
    assert "plain-3" in write_page(run).read_text()


def test_the_last_evaluation_is_on_the_page_wrong_ones_first(tmp_path: Path):
    run = record_run(tmp_path, evaluated=True)
    page = render(RecordedRun.read(run))
    text = plain(page)
    assert "12 of 12: of iterations 3, 2, 1 the prompts" in text
    assert "Of the evaluation after iteration 3 some held-out problems, wrong ones first." in text
    assert text.index("evaluation 3 held-1") < text.index("evaluation 3 held-0")
    assert page.count('data-iteration="evaluation 3"') == 3
    assert "<option>evaluation 3</option>" in page and "evaluation 0" not in text
    run.rollouts.path.unlink()
    text = plain(render(RecordedRun.read(run)))
    assert "This run trained on no rollouts." in text and "evaluation 3 held-1" in text


def test_a_run_that_was_not_evaluated_says_nothing_of_it(tmp_path: Path):
    assert "held-out problems, wrong" not in plain(render(RecordedRun.read(record_run(tmp_path))))


@pytest.mark.parametrize("missing", ["summary", "versions", "recipe", "metrics", "rollouts"])
def test_a_run_without_one_of_its_files_has_a_page(missing: str, tmp_path: Path):
    run = record_run(tmp_path, recipe=small_config())
    (next(run.path.glob(f"{missing}.json*"))).unlink()
    text = plain(render(RecordedRun.read(run)))
    expected = {
        "summary": "demo not ended",
        "versions": "Python unknown",
        "recipe": "did not keep its recipe",
        "metrics": "This run trained on no rollouts.",
        "rollouts": "This run trained on no rollouts.",
    }
    assert expected[missing] in text


@pytest.mark.parametrize(
    ("summary", "status"),
    [
        ({"failed": True}, "failed"),
        ({"complete": False}, "stopped"),
        ({"complete": True}, "complete"),
    ],
)
def test_how_the_run_ended(summary: dict[str, Any], status: str, tmp_path: Path):
    run = record_run(tmp_path)
    run.summary.write_text(json.dumps(summary))
    assert f"demo {status}" in plain(render(RecordedRun.read(run)))


def test_a_file_that_no_run_writes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = record_run(tmp_path)
    run.config.write_text("{")
    assert look("report", [str(run.path)]) == 2
    assert f"{run.config}: " in capsys.readouterr().err


def test_long_rollouts_leave_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = record_run(tmp_path)
    monkeypatch.setattr(page_module, "CHARACTERS", 1)
    assert "9 of 12:" in plain(render(RecordedRun.read(run)))  # the first prompt of each iteration
    monkeypatch.setattr(page_module, "ITERATIONS", 2)
    assert "6 of 12: of iterations 3, 1" in plain(render(RecordedRun.read(run)))


def test_the_command_prints_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = record_run(tmp_path)
    assert look("report", ["demo", "--run-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{run.report}\n" and run.report.is_file()
    assert look("report", ["dmo", "--run-dir", str(tmp_path)]) == 2
    assert "the nearest in" in capsys.readouterr().err


# --- at the end of a run -------------------------------------------------------------------------


def test_a_run_ends_with_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = RunDirectory.create(tmp_path, "demo")
    with Reporter(run, small_config(), iterations=1, sinks=[page_sink.Page(), Files()]) as reporter:
        reporter.iteration({"iteration": 1, "rollout/rollouts": 4}, groups(1))
        assert not run.report.exists()
    assert capsys.readouterr().out == f"report {run.report}\n"
    assert "mixed-1" in run.report.read_text()


def test_a_page_that_fails_fails_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    def broken(run: RecordedRun) -> str:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(page_module, "render", broken)
    run = record_run(tmp_path)
    with Reporter(run, small_config(), iterations=1, sinks=[page_sink.Page(), Files()]):
        pass
    told = capsys.readouterr().out
    assert (
        "no report: KeyError: 'a fault of ours'; `rlstep report" in told and str(run.path) in told
    )
    assert "the page of the run could not be made" in caplog.text
    assert json.loads(run.summary.read_text())["failed"] is False


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "panel", [p for s in sections(["prm"]) for p in s.panels], ids=lambda p: p.title
)
def test_a_picture_takes_its_colours_from_the_page(panel: Any):
    rows = [{"iteration": i, **dict.fromkeys(panel.lines, 0.5 + i)} for i in range(3)]
    svg = draw_panel(panel, rows)
    assert svg is not None and svg.startswith("<svg ")
    assert "currentColor" in svg and "var(--series-1)" in svg
    drawn = set(re.findall(r"#[0-9a-f]{6}\b", svg))
    assert not drawn, drawn  # no colour of its own, for the dark page
    for label in panel.lines.values() if len(panel.lines) > 1 else ():
        assert label in svg.replace("&#x27;", "'")


def test_a_panel_of_nothing_is_no_picture():
    panel = sections([])[0].panels[0]
    assert draw_panel(panel, []) is None
    assert draw_panel(panel, [{"iteration": 1, "eval/accuracy": float("nan")}]) is None


def test_scores_beyond_0_and_1_are_not_cut_off():
    """The axis of signed scores reaches to both."""
    svg = draw_by_position({"implicit": ([1, 2], [-3.0, 5.0])}, "mean score")
    ticks = [float(t.replace("\u2212", "-")) for t in re.findall(r">(\u2212?\d+)</text>", svg)]
    assert min(ticks) <= -2 and max(ticks) >= 4
    assert ">1.0</text>" in draw_by_position({"prm": ([1, 2], [0.3, 0.4])}, "mean score")


# --- in a browser --------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def contrast(page_colours: list[list[float]]) -> float:
    """WCAG 2: of two sRGB colours, from 1 to 21."""

    def luminance(colour: list[float]) -> float:
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, page_colours))
    return (high + 0.05) / (low + 0.05)


COLOURS = """
(() => {
  const probe = document.createElement("canvas").getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => {
    probe.fillStyle = style.getPropertyValue(name).trim();
    const hex = probe.fillStyle;
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  };
  const names = ["ink", "quiet", "link", "bad", "good", "paper", "panel"];
  const marks = ["poor", "unsure", "fair", ...[1, 2, 3, 4, 5, 6].map((i) => `series-${i}`)];
  return Object.fromEntries([...names, ...marks].map((name) => [name, rgb(`--${name}`)]));
})()
"""


async def check_width(page: Page, width: int) -> None:
    """No sideways scrolling: nothing reaches beyond the window."""
    wide = """[...document.querySelectorAll("body *")]
        .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5)
        .map((e) => `${e.tagName} ${e.className}`)"""
    assert await page.evaluate(wide) == []
    assert await page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width] * 2


async def check_contrast(page: Page) -> None:
    """Text at least 4.5 to 1, marks and lines 3 to 1, on both backgrounds (WCAG 2, AA)."""
    colours = await page.evaluate(COLOURS)
    for paper in ("paper", "panel"):
        for name in set(colours) - {"paper", "panel"}:
            least = 4.5 if name in ("ink", "quiet", "link", "bad", "good") else 3.0
            assert contrast([colours[name], colours[paper]]) >= least, (name, paper)


async def check_filter(page: Page) -> None:
    async def matching(**wanted: str) -> str:
        fill = "".join(f"form.elements.{n}.value = {json.dumps(v)};" for n, v in wanted.items())
        await page.evaluate(
            f"(() => {{ const form = document.getElementById('filter'); form.reset(); {fill}"
            " form.dispatchEvent(new Event('input')); })()"
        )
        return await page.evaluate("document.getElementById('matching').textContent")

    assert await matching() == "12 of 12 rollouts"
    assert await matching(verdict="wrong") == "3 of 12 rollouts"
    assert await matching(iteration="2") == "4 of 12 rollouts"
    assert await matching(error="yes") == "3 of 12 rollouts"
    assert await matching(error="no", verdict="correct", iteration="1") == "3 of 12 rollouts"
    assert await matching(lowest="0.2") == "3 of 12 rollouts"
    assert await matching(lowest="0.3") == "6 of 12 rollouts"
    assert await matching(text="WINDOW.taken") == "3 of 12 rollouts"  # as text, in any case
    assert await matching(text="nowhere") == "0 of 12 rollouts"
    assert await page.evaluate("document.querySelectorAll('.prompt:not([hidden])').length") == 0
    await matching(verdict="wrong", iteration="3")
    visible = "[...document.querySelectorAll('.rollout')].filter((e) => e.checkVisibility()).length"
    assert await page.evaluate(visible) == 1
    await matching()
    assert await page.evaluate(visible) == 12


async def check_labels(page: Page) -> None:
    """Every control has a name, every table its headings, every score its number."""
    controls = "[...document.querySelectorAll('input, select')]"
    assert await page.evaluate(f"{controls}.every((e) => e.labels.length === 1)")
    assert await page.evaluate("document.documentElement.lang") == "en"
    tables = (
        "[...document.querySelectorAll('table')].every((t) => t.querySelector('th[scope=col]'))"
    )
    assert await page.evaluate(tables)
    scores = await page.evaluate(
        "[...document.querySelectorAll('.rollout li')].map((e) => [e.className,"
        " e.querySelector('.score').textContent])"
    )
    assert ["step-bad", "0.10"] in scores and ["step-none", "-"] in scores
    assert await page.evaluate(
        "[...document.querySelectorAll('figcaption')].every(e => e.textContent)"
    )


@pytest.mark.slow
@needs_browser
async def test_a_browser_takes_the_page(run: RunDirectory, tmp_path: Path):
    async with browser_page(tmp_path / "profile") as page:
        for width, dark in ((390, False), (1200, True)):
            await page.open(run.report, width, dark=dark)
            await check_width(page, width)
            await page.evaluate(
                "document.querySelectorAll('details').forEach((e) => (e.open = true))"
            )
            await check_width(page, width)
            await check_contrast(page)
        await check_labels(page)
        await check_filter(page)
        # Markup that a model wrote is seen as it was written, and nothing of it ran.
        assert await page.evaluate("typeof window.taken") == "undefined"
        seen = await page.evaluate(
            "document.querySelector('.rollout li:nth-child(2) .text').textContent"
        )
        assert seen == f"2+2=x {MARKUP}"
        assert page.complaints == []
        assert set(page.requests) == {run.report.as_uri()}
        # Were it taken for markup all the same, the page's policy would not let it run.
        await page.evaluate(
            "(() => { const script = document.createElement('script'); script.textContent ="
            " 'window.taken = 1'; document.body.append(script); })()"
        )
        assert await page.evaluate("typeof window.taken") == "undefined"


@pytest.mark.slow
@needs_browser
async def test_the_browser_would_tell(tmp_path: Path):
    """An exception, a refused script, a request and a wide table are seen where they happen."""
    file = tmp_path / "page.html"
    file.write_text(
        "<!doctype html><meta name=viewport content='width=device-width'>"
        "<img src='missing.png'><div style='width: 2000px'>wide</div>"
        "<script>console.error('said'); undefinedName()</script>"
    )
    async with browser_page(tmp_path / "profile") as page:
        await page.open(file, 390)
        assert any("undefinedName" in c for c in page.complaints)
        assert any("said" in c for c in page.complaints)
        assert any(r.endswith("missing.png") for r in page.requests)
        with pytest.raises(AssertionError):
            await check_width(page, 390)


def test_what_was_observed_is_shown_and_is_no_step(tmp_path: Path):
    run = a_run(tmp_path)
    [row] = rollout_rows(ITERATIONS, [conversation(ITERATIONS)])
    row["steps"][0]["observed"] = f"\n{MARKUP}"
    run.rollouts.append(row)
    html = render(RecordedRun.read(run))
    [shown] = [part for part in html.split("<details")[1:] if "3/talk/0" in part]
    items = re.findall(r"<li class=\"(\S+)\"( data-score)?.*?</li>", shown)
    assert items == [
        ("observed", ""),
        ("step-good", " data-score"),
        ("observed", ""),
        ("step-bad", " data-score"),
    ]
    assert shown.count("<i class=") == 2  # of the strip, where steps alone stand
    assert "&lt;b&gt;bold&lt;/b&gt;" in shown and "<b>bold" not in shown
    assert "observed" not in html[html.index("<body>") :].replace(shown, "")
