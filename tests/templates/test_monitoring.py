"""Alert rules and dashboard, by Prometheus' own tool, and against the metrics and the runbook that they name."""
import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml
from windows_written import answer, minute, write

from beam_coresets.pipelines.views.history import History
from beam_coresets.pipelines.views.metrics import OF_KEY, OF_WINDOW, PREFIX, Metrics
from beam_coresets.summaries.places import LocalPlace

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "templates" / "monitoring"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture(scope="module")
def promtool():
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian: prometheus): run `make test-pages`")
    return found


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The metrics that `watch` has."""
    folder = tmp_path_factory.mktemp("out")
    write(folder, answer(minute(0), 0))
    (folder / "schema.json").write_text(json.dumps({"settings": {"deadline": 5.0}}))
    history = History(LocalPlace(str(folder)))
    history.refresh()
    return {family.name + ("_total" if family.type == "counter" else "") for family in Metrics(history).collect()} | {
        f"{PREFIX}_{name}" for name in (*OF_WINDOW, *OF_KEY)}  # fmt: skip


def expressions():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_rules_and_their_tests_pass(promtool):
    for words in (["check", "config", "prometheus.yaml"], ["test", "rules", "alerts-test.yaml"]):
        done = subprocess.run([promtool, *words], cwd=FOLDER, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tested_firing_and_silent():
    cases = [case for test in yaml.safe_load((FOLDER / "alerts-test.yaml").read_text())["tests"]
             for case in test["alert_rule_test"]]  # fmt: skip
    for rule in RULES:
        mine = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]]
        assert sorted(set(mine)) == [False, True], rule["alert"]


def test_each_line_of_the_runbook_is_a_rule_that_leads_to_it():
    lines = re.findall(r'^\| <a id="(\w+)"></a>`(\w+)` \|', OPERATIONS, re.M)
    assert [anchor for anchor, name in lines] == [name.lower() for _, name in lines]
    assert sorted(name for _, name in lines) == sorted(rule["alert"] for rule in RULES)
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    table = OPERATIONS[OPERATIONS.index("## What each alarm means"):]
    table = table[: table.index("\n## ", 3)]
    assert len(lines) == sum(line.startswith("| ") for line in table.splitlines()) - 2, "no line is without a rule"


def test_rules_and_dashboard_ask_for_metrics_that_there_are(names):
    asked = {name for text in (*(rule["expr"] for rule in RULES), *expressions())
             for name in re.findall(r"beam_coresets_\w+", text)}  # fmt: skip
    assert len(asked) > 12
    assert asked - names == set()
    assert {f"{PREFIX}_coverage", f"{PREFIX}_windows_total", f"{PREFIX}_deadline_seconds"} <= asked


def test_flinks_metrics_are_those_of_the_runbook():
    asked = set(re.findall(r"operator_\.\*(\w+)", " ".join(rule["expr"] for rule in RULES)))
    assert len(asked) == 5
    assert [name for name in asked if f"`{name}`" not in OPERATIONS] == []


def test_what_the_dashboard_asks_for_can_be_parsed(promtool, tmp_path):
    def filled(text):
        return text.replace("$job", ".*").replace("$instance", ".*").replace("$key", ".*")

    rules = [{"record": f"panel:{i}", "expr": filled(text)} for i, text in enumerate(expressions())]
    assert len(rules) > 15
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_overlap():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
