"""`snakemake --report` shows the small tables of a finished study, with what they are."""

import re
import zipfile

import pytest

from workflow import ROOT

FLAG = re.compile(r'report\(\s*"(\S+)",\s*caption="\.\./(\S+)",\s*category="(\w+)"')
FLAGGED = [
    found
    for file in (ROOT / "rules").glob("*.smk")
    for found in FLAG.findall(file.read_text())
]


@pytest.fixture(scope="module")
def page(_finished, tmp_path_factory):
    """Return the text of the page of a finished study."""
    path = tmp_path_factory.mktemp("page") / "appendix.html"
    done = _finished[1].say(_finished[0], "--report", str(path))
    assert done.code == 0, done.text
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("category", sorted({category for *_, category in FLAGGED}))
def test_every_category_stands_on_the_page(page, category):
    assert f'"{category}"' in page


@pytest.mark.parametrize(
    "told",
    [
        "measured/bone/d.json",
        "evaluated/t3ss/matches.csv",
        "trained/bone/weak.csv",
        "published/t3ss/v.csv",
        "averaged/t3ss/fsc.csv",
    ],
)
def test_what_is_worth_showing_is_on_the_page(page, told):
    assert f"results/{told}" in page


def test_no_volume_is_put_on_the_page(page):
    assert "segmented/bone/final/d.h5" not in page
    assert len(page) < 5e6


def test_captions_say_what_they_speak_of(page):
    assert "Learning curve of round <em>final</em> of task" in page
    assert "{{" not in " ".join(re.findall(r"Quantities measured[^<]*<em>[^<]*", page))


def test_the_page_names_no_folder(page, checkout):
    assert str(checkout.parent) not in page


def test_a_zip_holds_the_files_themselves(planner, study, tmp_path):
    done = planner.say(study, "--report", str(tmp_path / "appendix.zip"))
    assert done.code == 0, done.text
    names = zipfile.ZipFile(tmp_path / "appendix.zip").namelist()
    assert "appendix/report.html" in names
    assert any(name.endswith("scores.csv") for name in names)


@pytest.mark.parametrize(("path", "caption", "_category"), FLAGGED)
def test_every_caption_is_there_and_is_of_its_artefact(path, caption, _category):
    text = (ROOT / "workflow" / caption.removeprefix("workflow/")).read_text()
    named = set(re.findall(r"snakemake\.wildcards\.(\w+)", text))
    assert named <= set(re.findall(r"{(\w+)}", path))


def test_no_caption_is_left_over():
    used = {caption.rsplit("/", 1)[-1] for _, caption, _ in FLAGGED} | {"study.rst"}
    assert {file.name for file in (ROOT / "workflow/report").iterdir()} == used
