"""Count to ten, obey, save when told to end, and note what happens."""

import os
import signal
import sys
import time
from pathlib import Path

name, output = snakemake.wildcards.name, Path(snakemake.output[0])
saved, writer = output.with_suffix(".saved"), output.with_suffix(".writer")
history = Path("history") / name


def note(text):
    with history.open("a") as file:
        file.write(f"{text}\n")
    with Path("times").open("a") as file:
        file.write(f"{time.time():.1f} {name} {text}\n")


def order():
    return (Path("orders") / name).read_text()


def alive(process):
    return process and Path(f"/proc/{process}").exists()


def end(*_):
    saved.write_text(str(count))
    writer.unlink()
    note(f"saved {count}")
    sys.exit(1)


count = int(saved.read_text()) if saved.exists() else 0
attempts = history.read_text().count("began") if history.exists() else 0
job = os.environ.get("SLURM_JOB_ID")
if writer.exists() and alive(int(writer.read_text() or 0)):
    note("SECOND WRITER")
writer.write_text(str(os.getpid()))
deaf = order() == "deaf" and attempts == 0
signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else end)
note(f"began {job} {os.environ.get('SLURMD_NODENAME')} {count}")
if order().startswith("fail") and attempts < int(order().split()[1]):
    writer.unlink()
    sys.exit(1)
while count < 10:
    if count == 5 and (order() == "wait" or deaf):
        note("waits")
        while order() == "wait" or deaf:
            time.sleep(0.2)
    count += 1
    note(f"counted {count}")
    time.sleep(0.05)
output.write_text("".join(f"{number}\n" for number in range(count)))
saved.unlink(missing_ok=True)
writer.unlink()
note("ended")
record = Path("results/provenance/trained") / f"{output.name}.json"
record.parent.mkdir(parents=True, exist_ok=True)
record.write_text("{}")
