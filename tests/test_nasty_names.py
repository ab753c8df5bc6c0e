"""Names that would do harm in a shell, path, page or sheet: refused, or only shown."""

import copy
import json
from html.parser import HTMLParser

import crates
import pytest
import yaml

from tomoglean import crate, provenance, report, study
from tomoglean.crate.records import read
from tomoglean.provenance import Refused
from workflow import CONFIG

SHELL = """
$(touch pwned)|`touch pwned`|; touch pwned|> pwned|&& touch pwned|-rf|--help|*|?|~
{volume}|{input}|<name>|a b|a'b|a"b|a\\b
"""
PATHS = "../up|..|.|/etc/passwd|a/b|a//b|./a"
HTML = """
<script>alert(1)</script>|"><img src=x onerror=alert(1)>|<svg onload=alert(1)>|<!--|]]>
javascript:alert(1)|</style><script src=//evil.example/x.js></script>|{{ 7 * 7 }}
<iframe src=//evil.example>|' onmouseover='alert(1)|{% raw %}|&lt;b&gt;|<a href=x>
<base href=//evil.example>|%3Cscript%3E
"""
SHEET = """
=1+1|+1+1|-1+1|@SUM(A1)|=HYPERLINK("http://evil.example")|=cmd!A0
"""
ODD = [
    "a\nb",
    "a\x00b",
    "\u202egnp.exe",
    "\uff41",
    "ä",
    "a" * 65,
    "",
    " ",
    "\ta",
    "a\r",
    "\x1b[2J",
]
WORDS = "|".join((SHELL, PATHS, HTML, SHEET)).replace("\n", "|").split("|")
NASTY = [*filter(None, WORDS), *ODD]
IN_NO_FILE = {*"\x00\t\n\r/$"}
SHOWN = [name for name in NASTY if name.strip(" .") and not set(name) & IN_NO_FILE]
ALLOWED = {
    *("class", "id", "href", "src", "alt", "title", "lang", "charset", "name", "content"),
    *("style", "width", "height", "scope", "colspan", "open", "role", "http-equiv"),
    *("aria-label", "aria-hidden", "tabindex", "viewbox", "d"),
}


def as_volume(config, tables, name):
    tables["volumes"][0]["volume"] = name


def as_tasks(config, tables, name):
    tables["volumes"][0]["tasks"] = name


def as_label(config, tables, name):
    tables["labels"][0]["volume"] = name


def as_kind(config, tables, name):
    tables["labels"][0]["kind"] = name


def as_task(config, tables, name):
    config["tasks"][name] = config["tasks"].pop("bone")


def as_class(config, tables, name):
    config["tasks"]["bone"]["classes"][1] = name


def as_control(config, tables, name):
    config["tasks"]["bone"]["controls"] = {name: {"labels": ["clean"]}}


DOORS = [as_volume, as_tasks, as_label, as_kind, as_task, as_class, as_control]


def written(root, config, tables):
    (root / "config").mkdir(parents=True)
    (root / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    for name, rows in tables.items():
        lines = [list(rows[0]), *[list(row.values()) for row in rows]]
        text = "".join("\t".join(cells) + "\n" for cells in lines)
        (root / "config" / f"{name}.tsv").write_text(text, newline="")
    return root


def plain(root):
    """Return config and tables of a good study, and make its raw file."""
    (root / "raw.mrc").write_bytes(b"raw")
    volume = {"volume": "a", "tasks": "bone", "path": "../raw.mrc", "voxel_nm": "10"}
    label = {
        "task": "bone",
        "volume": "a",
        "kind": "clean",
        "use": "test",
        "path": "../raw.mrc",
    }
    return copy.deepcopy(CONFIG), {"volumes": [volume], "labels": [label]}


def test_there_are_50_of_them():
    assert len(set(NASTY)) >= 50
    assert len(SHOWN) >= 30


def test_the_study_is_good_before_a_name_is_put_in(tmp_path):
    assert study.read(written(tmp_path / "study", *plain(tmp_path))).volumes


def refusal_of(root):
    try:
        study.read(root)
    except Refused as refusal:
        return str(refusal)
    return None


def allowed(door, name):
    """Tell whether what the table's reader leaves of a name is a good one."""
    return door is as_volume and name.strip().isascii() and name.strip().isalnum()


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_nasty_name_is_refused_at_the_door_in_one_line(tmp_path, door):
    for number, name in enumerate(NASTY):
        config, tables = plain(tmp_path)
        door(config, tables, name)
        root = written(tmp_path / f"study-{number}", config, tables)
        said = refusal_of(root)
        same = name.strip() in ("", "a") and door in (as_volume, as_label)
        assert said or same or allowed(door, name), (name, said)
        assert said is None or said.isprintable(), name
    assert not list(tmp_path.rglob("pwned"))


class Page(HTMLParser):
    """Collect what a browser would act on."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Return a study whose files, people and settings have nasty names."""
    root = tmp_path_factory.mktemp("nasty") / "study"
    crates.finished(root, "a")
    lines = ["volume\ttasks\tpath\tvoxel_nm\n"]
    for number, name in enumerate(SHOWN):
        (root / "raw" / name).write_bytes(name.encode())
        lines.append(f"v{number}\tbone\traw/{name}\t10\n")
    quoted = [line for line in lines if '"' not in line]
    (root / "config" / "volumes.tsv").write_text("".join(quoted))
    config = yaml.safe_load((root / "config" / "config.yaml").read_text())
    config["about"] = dict.fromkeys(("title", "person", "licence"), " ".join(SHOWN))
    config["tasks"]["t3ss"] = {
        "kind": "detection",
        "membrane": "bone",
        "mask": {"membrane_class": "bone"},
        "target": [name for name in NASTY if name.isprintable() and name.strip()],
    }
    (root / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    record = root / "results/provenance/converted/a.h5.json"
    facts = json.loads(record.read_text())
    facts["settings"]["row"] = {f"k{number}": name for number, name in enumerate(SHOWN)}
    provenance.write_json(facts, record)
    return study.read(root)


def test_the_page_shows_them_and_has_no_script(shown):
    text = report.build(shown, outcome="failed", message=" ".join(SHOWN)).read_text()
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "embed", "base", "form", "link"}
    assert {name for _, attrs in page.tags for name in attrs} <= ALLOWED
    for _, attrs in page.tags:
        for place in ("href", "src"):
            assert (attrs.get(place) or "#").startswith(("#", "data:image/")), attrs
    words = " ".join(page.words)
    for name in ("<svg onload=alert(1)>", "{{ 7 * 7 }}", "&lt;b&gt;", "<!--", "=1+1"):
        assert name in words


def test_the_crate_holds_them_as_they_are_and_only_as_values(shown):
    path = crate.write(shown)
    graph = json.loads(path.read_text())["@graph"]
    told = {entity["@id"]: entity for entity in graph}
    assert told["./"]["name"] == " ".join(SHOWN)
    values = {entity.get("value") for entity in graph}
    assert {name for name in SHOWN if not name.startswith("~")} <= values
    for id_ in told:
        assert not set(id_) & set('<>"{}|\\^` '), id_
    assert len(read(shown.root / "results")) == len(crates.JOBS)


def test_the_tables_in_the_crate_keep_a_row_a_volume(shown):
    crate.write(shown)
    lines = (shown.root / "results/crate/volumes.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(shown.volumes)
    assert len({line.count("\t") for line in lines}) == 1
