"""The crate of a study is valid, says what happened, and leaks nothing."""

import base64
import getpass
import json
import socket
import xml.etree.ElementTree as ET

import crates
import pytest

from tomoglean import crate, plan, provenance, report, stage
from tomoglean.crate import copies, files, records
from tomoglean.crate.parameters import settings_of
from tomoglean.provenance import Refused

NOT_TOLD = {
    "process-run-crate-0.5_5.1": "wants web addresses as ids of scripts in the crate",
    "ro-crate-1.1_28.1": "raw data are named by content, and nowhere on the web",
    "process-run-crate-0.5_15.4": "environment variables are private",
    "provenance-run-crate-0.5_23.3": "environment variables are private",
    "workflow-run-crate-0.5_13.3": "environment variables are private",
    "process-run-crate-0.5_15.5": "no container ran",
    "ro-crate-1.1_32.1": "the files of a study are nowhere on the web",
    "ro-crate-1.1_33.1": "the files of a study are nowhere on the web",
    "ro-crate-1.1_33.2": "the files of a study are nowhere on the web",
    "ro-crate-1.1_33.3": "the files of a study are nowhere on the web",
    "ro-crate-1.1_33.4": "the files of a study are nowhere on the web",
    "workflow-ro-crate-1.0_10.2": "the workflow is not described in CWL",
    "workflow-ro-crate-1.0_11.1": "the workflow is not described in CWL",
    "workflow-ro-crate-1.0_12.1": "results hold no folder of examples",
    "workflow-ro-crate-1.0_13.1": "results hold no folder of tests",
}


@pytest.fixture
def study(tmp_path):
    return crates.finished(tmp_path / "study")


@pytest.fixture
def told(study):
    path = crate.write(study)
    return {entity["@id"]: entity for entity in json.loads(path.read_text())["@graph"]}


def of_type(told, kind):
    return [entity for entity in told.values() if kind in entity["@type"]]


def refs(value):
    every = value if isinstance(value, list) else [value]
    return [one["@id"] for one in every]


def job_of(told, name):
    return next(e for e in of_type(told, "CreateAction") if e["name"] == name)


def test_it_passes_the_public_validator_at_its_strictest_off_the_network(tmp_path):
    path = crate.write(crates.finished(tmp_path / "study", "a", jobs=2))
    assert crates.unknown_terms(json.loads(path.read_text())) == set()
    found = crates.issues(path.parent, tmp_path / "cache", "OPTIONAL", skip=NOT_TOLD)
    assert found == []


@pytest.mark.slow
def test_folders_and_tables_too_pass_the_validator(tmp_path):
    path = crate.write(crates.finished(tmp_path / "study"))
    assert crates.unknown_terms(json.loads(path.read_text())) == set()
    assert crates.issues(path.parent, tmp_path / "cache", "OPTIONAL", skip=NOT_TOLD) == []


@pytest.mark.slow
def test_the_validator_would_find_a_flaw(tmp_path):
    path = crate.write(crates.finished(tmp_path / "study", "a"))
    text = path.read_text().replace('"instrument"', '"identifier"')
    path.write_text(text)
    found = crates.issues(path.parent, tmp_path / "cache", "REQUIRED")
    assert any("instrument" in issue for issue in found)


def test_every_file_of_the_results_is_told_with_its_hash(study, told):
    results = study.root / "results"
    whole = results / "published/bone/a.labels.ome.zarr"
    for path in results.rglob("*"):
        name = path.relative_to(results).as_posix()
        if path.is_dir() or name.startswith(files.METADATA) or ".ome.zarr" in name:
            continue
        assert told[name]["sha256"] == provenance.sha256_of_file(path)
    assert told["published/bone/a.labels.ome.zarr/"]["sha256"] == provenance.sha256_of(
        whole
    )


def test_a_job_tells_tool_settings_inputs_outputs_and_times(told):
    job = job_of(told, "segment: segmented/bone/final/a.h5")
    values = {told[i]["name"]: told[i]["value"] for i in refs(job["object"]) if i[0] == "#"}
    assert values == {"settings.width": 0.5, "settings.axes": '["z"]', "code": "c0de"}
    assert "converted/a.h5" in refs(job["object"])
    assert refs(job["result"]) == ["segmented/bone/final/a.h5"]
    assert refs(job["instrument"]) == ["crate/workflow/scripts/segment.py"]
    assert (job["startTime"], job["endTime"][17:19]) == ("2026-01-02T03:04:05+00:00", "06")
    assert refs(job["subjectOf"]) == ["provenance/segmented/bone/final/a.h5.json"]


def test_every_job_is_a_step_that_the_engine_organised(told):
    jobs = [e for e in of_type(told, "CreateAction") if e["@id"].startswith("#job/")]
    assert len(jobs) == 4 * 3 + 1
    controls = of_type(told, "ControlAction")
    assert sorted(refs(c["object"])[0] for c in controls) == sorted(j["@id"] for j in jobs)
    assert set(refs(told["#engine"]["object"])) == {c["@id"] for c in controls}
    assert refs(told["#engine"]["result"]) == ["#run"]


def test_software_is_told_with_versions_and_absolute_ids(told):
    apps = of_type(told, "SoftwareApplication")
    names = {app["name"]: app["softwareVersion"] for app in apps}
    assert names["numpy"] == stage._versions()["numpy"]
    assert {"python", "snakemake", "tomoglean"} <= names.keys()
    assert all(app["@id"].startswith(("https://", "swh:1:rev:", "urn:")) for app in apps)


def test_the_rules_that_ran_are_drawn(study, told):
    assert refs(told[copies.WORKFLOW]["image"]) == [copies.DRAWING]
    assert told[copies.DRAWING]["@type"] == ["File", "ImageObject"]
    assert told[copies.DRAWING]["encodingFormat"] == "image/svg+xml"
    drawing = ET.parse(study.root / "results" / copies.DRAWING)
    words = {element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {"check", "convert", "segment", "publish_zarr", "evaluate"} <= words


def test_raw_data_are_named_by_their_content(study, told):
    sha256 = provenance.sha256_of_file(study.root / "raw/a.mrc")
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    raw = told[f"ni:///sha-256;{digest}"]
    assert (raw["name"], raw["sha256"]) == ("raw/a.mrc", sha256)
    assert raw["@id"] in refs(job_of(told, "check: checked/a.json")["object"])
    assert raw["@id"] in refs(told["#run"]["object"])


def test_who_feeds_whom_is_told_by_connections(told):
    links = of_type(told, "ParameterConnection")
    pairs = {(*refs(k["sourceParameter"]), *refs(k["targetParameter"])) for k in links}
    assert ("#convert/out/converted", "#segment/in/converted") in pairs
    assert ("#workflow/in/raw", "#check/in/raw") in pairs
    assert ("#evaluate/out/evaluated", "#workflow/out/evaluated") in pairs
    assert ("#workflow/in/config", "#segment/set/settings.width") in pairs


def test_rules_that_share_a_script_share_the_tool(told):
    assert refs(told["#step/publish_zarr"]["workExample"]) == [
        "crate/workflow/scripts/publish_volume.py"
    ]


def test_every_rule_of_the_workflow_has_a_script_and_a_meaning():
    text = "".join(path.read_text() for path in (copies.CHECKOUT / "rules").glob("*.smk"))
    known = copies.scripts()
    assert {"check", "train", "publish_zarr", "average"} <= known.keys()
    assert text.count("    script:") <= len(known)
    assert all(script.meaning.endswith(".") for script in known.values())


def test_nobody_is_named_unless_the_config_does(study, told):
    assert told["#person"]["name"] == "not named"
    about = {"person": "Ann", "organisation": "DESY", "licence": "CC-BY-4.0", "title": "T"}
    path = crate.write(
        type(study)({**study.config, "about": about}, study.volumes, [], study.root)
    )
    named = {e["@id"]: e for e in json.loads(path.read_text())["@graph"]}
    assert named["#person"]["name"] == "Ann"
    assert named["#licence"]["name"] == "CC-BY-4.0"
    assert named["./"]["name"] == "T"


def test_folders_hosts_users_and_environment_are_not_told(study, monkeypatch):
    monkeypatch.setenv("BEAMLINE_TOKEN", "s3cr3t-t0ken")
    path = next(row["path"] for row in study.volumes if row["volume"] == "c")
    assert path.endswith(crates.OUTSIDE)
    report.build(study, outcome="failed", message=f"{path}: cut short")
    crate.write(study, message=f"no such file: {path}")
    private = [str(study.root), "private house", socket.gethostname(), "s3cr3t-t0ken"]
    private += [f"/home/{getpass.getuser()}", str(copies.CHECKOUT)]
    texts = [path for path in (study.root / "results").rglob("*") if path.suffix in
             (".json", ".tsv", ".yaml", ".md", ".sha256", ".html")]  # fmt: skip
    assert len(texts) > 20
    for path in texts:
        found = path.read_bytes().decode(errors="replace")
        assert [word for word in private if word in found] == [], path


def test_missing_artefacts_make_the_run_failed_and_the_jobs_stay_done(study):
    wanted = plan.Plan(study).all()
    path = crate.write(study, wanted=[*wanted, "results/never/made.h5"])
    told = {e["@id"]: e for e in json.loads(path.read_text())["@graph"]}
    assert told["#run"]["actionStatus"].endswith("FailedActionStatus")
    assert told["#run"]["error"].endswith("artefacts are missing")
    assert told["#job/1"]["actionStatus"].endswith("CompletedActionStatus")


def test_the_same_study_gives_the_same_bytes(study):
    first = crate.write(study).read_bytes()
    assert crate.write(study).read_bytes() == first


def test_a_file_that_is_no_longer_what_its_job_wrote_keeps_the_jobs_hash(study, told):
    path = study.root / "results/converted/a.h5"
    record = study.root / "results/provenance/converted/a.h5.json"
    facts = json.loads(record.read_text())
    facts["sha256"] = provenance.sha256_of_file(path)
    record.write_text(json.dumps(facts))
    path.write_bytes(b"something else")
    after = {e["@id"]: e for e in json.loads(crate.write(study).read_text())["@graph"]}
    assert after["converted/a.h5"]["sha256"] == facts["sha256"]
    assert "no longer" in after["converted/a.h5"]["description"]


def test_hashes_are_remembered_until_a_file_changes(study, monkeypatch):
    crate.write(study)
    read = []
    real = provenance.sha256_of
    monkeypatch.setattr(
        provenance, "sha256_of", lambda path: read.append(path) or real(path)
    )
    crate.write(study)
    assert [path for path in read if "segmented" in str(path)] == []
    (study.root / "results/segmented/bone/final/a.h5").write_bytes(b"new")
    crate.write(study)
    assert [path.name for path in read if "segmented" in str(path)] == ["a.h5"]


def test_a_study_without_records_is_refused_in_one_line(tmp_path):
    study = crates.finished(tmp_path / "study", "a")
    for path in (study.root / "results/provenance").rglob("*.json"):
        path.unlink()
    with pytest.raises(Refused, match="run snakemake in the study first"):
        crate.write(study)


def test_a_failing_crate_turns_no_run_red(study, monkeypatch, capsys):
    monkeypatch.setattr(crate, "write", lambda *_, **__: 1 / 0)
    stage.crate(plan.Plan(study))
    assert "no crate: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError, OSError, MemoryError, RecursionError])
def test_a_failing_report_turns_no_run_red(study, monkeypatch, capsys, error):
    def fail(*_words, **_more):
        raise error("broken")

    monkeypatch.setattr(report, "build", fail)
    stage.show(plan.Plan(study), "green")
    assert f"no report: {error.__name__}: broken" in capsys.readouterr().err


def test_damaged_records_are_left_out(study):
    (study.root / "results/provenance/converted/a.h5.json").write_text("{")
    jobs = records.read(study.root / "results")
    assert "converted/a.h5" not in {path for job in jobs for path in job.outputs}


def test_nested_settings_are_told_one_by_one(study):
    job = records.read(study.root / "results")[0]
    job.settings.update({"a": {"b": [1], "c d": None}, "e": True})
    flat = settings_of(job)
    assert (flat["a.b"], flat["e"], "a.c-d" in flat) == ("[1]", True, False)
