"""`python -m benchmarks.marks [--quick] [FOLDER...]`: how well the marks last.

Writes docs/robustness.md and its picture.

Folders hold speech that training was never given; `tests/data/speech` is always one of them. The prompts of the
Asterisk exchange, professional speakers in five languages (CC BY-SA 3.0), come with Debian:

    mkdir -p runs/asterisk && cd runs/asterisk
    apt-get download asterisk-core-sounds-{en,es,fr,it,ru}-g722
    for package in *.deb; do dpkg -x "$package" .; done

PESQ, STOI and the peers need `pip install -c constraints.txt -e '.[bench]'` (a C compiler and Python's headers);
without them the rest is measured. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.marks.clips import clips_of
from benchmarks.marks.picture import picture
from benchmarks.marks.plan import Plan
from benchmarks.marks.report import report
from benchmarks.marks.results import Results
from benchmarks.marks.run import OtherRun, recorded, run
from benchmarks.marks.systems import OURS, installed_peers

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "tests" / "data" / "speech"
PER_SPEAKER, SPLICES = 2, 16
QUICK_CLIPS = 3


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="audio of speakers that training never heard")
    parser.add_argument("--held-out", nargs="*", type=Path, default=[], help="folders that training was given")
    parser.add_argument("--quick", action="store_true", help="three clips, no peers, nothing written to docs")
    parser.add_argument("--weights", type=Path, help="a folder of weights instead of the shipped ones")
    parser.add_argument("--out", type=Path, help="folder for the run's records (runs/marks, runs/marks-quick)")
    parser.add_argument("--report", action="store_true", help="write what is on record, and measure nothing")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def plan_of(asked: argparse.Namespace) -> Plan:
    """What to measure."""
    clips = clips_of([SPEECH, *asked.folders], asked.held_out, 1 if asked.quick else PER_SPEAKER)
    folder = asked.out or ROOT / "runs" / ("marks-quick" if asked.quick else "marks")
    if asked.quick:
        few = clips[:: max(1, len(clips) // QUICK_CLIPS)][:QUICK_CLIPS]
        return Plan(tuple(few), (OURS,), folder, asked.weights, len(few))
    return Plan(tuple(clips), (OURS, *installed_peers()), folder, asked.weights, min(SPLICES, len(clips)))


def command(asked: argparse.Namespace) -> str:
    """What to type for these tables, less what does not change them."""
    words = ["python", "-m", "benchmarks.marks", *["--quick"] * asked.quick, *map(str, asked.folders)]
    return shlex.join([*words, *["--held-out"] * bool(asked.held_out), *map(str, asked.held_out)])


def main() -> None:
    """Measure, print, write."""
    asked = parse()
    plan = plan_of(asked)
    try:
        about = recorded(plan.folder) if asked.report else run(plan, asked.processes)
    except (OtherRun, FileNotFoundError) as error:
        sys.exit(str(error))
    results = Results(plan.folder, about)
    text = report(results, command(asked))
    Console().print(Markdown(text))
    target = plan.folder if asked.quick else ROOT / "docs"
    (target / "robustness.md").write_text(text)
    (target / "robustness.svg").write_text(picture(results))
    Console().print(f"written: {target / 'robustness.md'}, {target / 'robustness.svg'}")


if __name__ == "__main__":
    main()
