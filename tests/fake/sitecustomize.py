"""Stand in for every script of the pipeline: write outputs at once, compute nothing.

Python imports this file at start when its folder is on PYTHONPATH. It lets the tests walk
the real Snakefile, rules and rerun logic over a whole study in seconds. A rule named in
FAKE_FAIL fails instead; FAKE_FREE says how many bytes are free on every disk, FAKE_SHAPE
what shape every volume has.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

END = "######## snakemake preamble end #########"


def output_text(name: str, params: dict) -> str:
    if "/checked/" in name:
        broken = os.environ.get("FAKE_REFUSE", "-") in name
        shape = json.loads(os.environ.get("FAKE_SHAPE", "null"))
        verdict = "refused" if broken else "ok"
        return json.dumps({"verdict": verdict, "messages": [], "shape": shape})
    return json.dumps({"made": name, "params": params}, default=str)


def stand_in(text: str) -> None:
    names = {"__file__": ""}
    exec(text.partition(END)[0], names)
    job = names["snakemake"]
    if job.rule == os.environ.get("FAKE_FAIL"):
        os._exit(1)
    if job.rule == "convert" and "refused" in Path(job.input.checked).read_text():
        os._exit(1)
    for name in job.output:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        file = Path(name)
        if file.suffix == ".zarr":
            file.mkdir()
            file = file / "zarr.json"
        file.write_text(output_text(name, dict(job.params)))
    os._exit(0)


if "FAKE_FREE" in os.environ:
    shutil.disk_usage = lambda path: SimpleNamespace(free=int(os.environ["FAKE_FREE"]))

script = Path(sys.orig_argv[-1])
if ".snakemake/scripts" in str(script) and script.is_file():
    content = script.read_text()
    if END in content:
        stand_in(content)
