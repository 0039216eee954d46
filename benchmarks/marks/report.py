"""The report of a run, in Markdown: for the docs, and for the terminal."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from math import isnan
from pathlib import Path

import numpy as np

from benchmarks.marks.bar import DIGITS, Demand, demands
from benchmarks.marks.plan import REGISTERED, SPLICE_FORMS
from benchmarks.marks.prose import clips_of_run, how
from benchmarks.marks.results import FALSE_POSITIVES, LENGTHS, Results
from benchmarks.marks.stats import Share
from vivavoce.watermark.code import IDENTITY_BITS

PACKAGES = ("torch", "numpy", "av", "soundfile", "soxr", "pesq", "pystoi", "resemble-perth")

UNMARKED_WORDS = (
    "The clips went through the same edits. Our score is -log10 of the probability that an unmarked sound scores so "
    "high: for the keyed mark of a bound on it (Bentkus and Dzindzalieta's inequality, and the union bound over "
    "everything that is tried), for the learned mark as its weights were calibrated. 3, the threshold, stands for "
    "1 in 1,000. A peer's threshold for 1e-3 is set on these very clips, in its favour."
)


def report(results: Results, command: str) -> str:
    """All tables, and how they were made."""
    parts = [
        "# How well the marks last",
        f"Written by `{command}`; every figure comes from that run. Marks: "
        f"`{results.about['model']}`, code and weights {results.about['digest']} (SHA-256).",
        clips_of_run(results.clips) + _stopped(results.done),
        "![Share of marks found after each edit](robustness.svg)",
        "## Asked and measured",
        "Real speakers whom the weights have not seen, 10 s clips, the shipped threshold.",
        _table(("", "must", "aim", "measured", ""), [_demand(row) for row in demands(results)]),
        "## Found after edits",
        f"Share of marked clips that are found, with the 95 % interval (Wilson): ours at the shipped threshold, a peer "
        f"where at most {FALSE_POSITIVES:g} of the unmarked clips are found (1e-3), and as it is shipped, whatever it "
        "then finds in unmarked ones (below).",
        _found(results),
        "Over all edits, by where the clips are from:",
        _sources(results),
        "## Bits and outputs",
        _bits_words(results),
        _bits(results),
        "## Unmarked sounds",
        _unmarked(results),
        "## Quality of marked speech",
        _quality(results),
        "## Where in the file",
        "3 s of a marked clip in 9 s of another speaker's unmarked one, and the other way round. Where the registry "
        "tells whose mark it is, borders are drawn with its exact code.",
        _splices(results),
        "## Speed",
        "Processor time over the sound's length, one thread, 10 s clips.",
        _speed(results),
        how(),
        f"{_machine()}; Python {platform.python_version()}, {_versions()}.",
    ]
    return "\n\n".join(parts) + "\n"


def _stopped(done: Share) -> str:
    if done.hits == done.count:
        return ""
    return f" The run was stopped: {done.hits:,} of its {done.count:,} pairs of a clip and an edit are on record."


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _demand(row: Demand) -> tuple[str, ...]:
    sign = "at most " if row.lower else ""
    must = "published" if row.must is None else f"{sign}{row.must:g}"
    measured = "-" if isnan(row.measured) else f"{row.measured:.{DIGITS}f}".rstrip("0").rstrip(".")
    return row.what, must, f"{sign}{row.aim:g}", measured, row.verdict


def _share(found: Share) -> str:
    if not found.count:
        return ""
    low, high = found.interval
    return f"{found.value:.2f} ({low:.2f}-{high:.2f})"


def _found(results: Results) -> str:
    columns = [(mark, seconds) for mark in results.columns for seconds in LENGTHS]
    body = [
        (edit, *(_share(results.found(mark, edit, seconds)) for mark, seconds in columns)) for edit in results.measured
    ]
    return _table(("edit", *(f"{mark.name}: {seconds} s" for mark, seconds in columns)), body)


def _sources(results: Results) -> str:
    body = []
    for source in results.sources:
        clips = sum(where == source for _, _, where in results.clips)
        body.append((source, str(clips), *(_share(results.found_of(source, seconds)) for seconds in LENGTHS)))
    return _table(("source", "clips", *(f"{seconds} s" for seconds in LENGTHS)), body)


def _bits_words(results: Results) -> str:
    marked, unmarked = (results.false_attributions(marked=marked) for marked in (True, False))
    return (
        f"Code bits: the share of those heard that are right, before decoding. Bits: of the {IDENTITY_BITS} bits of "
        f"the identity, decoded as the likeliest of {REGISTERED + 1:,} registered ones. Both are 0.5, chance, where "
        "nothing was read. Output: exactly the right one is named, and not just likely. A wrong output was named for "
        f"{marked.hits} of {marked.count:,} marked and {unmarked.hits} of {unmarked.count:,} unmarked sounds; the "
        "bound is 1e-6 for each."
    )


def _bits(results: Results) -> str:
    body = []
    for edit in results.measured:
        bits = [results.bits(edit, seconds, kind) for kind in ("code_bits", "bits") for seconds in LENGTHS]
        exact = [results.exact(edit, seconds) for seconds in LENGTHS]
        body.append((edit, *("" if isnan(b) else f"{b:.3f}" for b in bits), *map(_share, exact)))
    heads = [f"{what} {seconds} s" for what in ("code bits", "bits", "output") for seconds in LENGTHS]
    return _table(("edit", *heads), body)


def _unmarked(results: Results) -> str:
    body = []
    for system in results.systems:
        scores = np.array([row["score"] for row in results.looks(system, marked=False)])
        false = results.false_positives(system)
        if not len(scores):
            continue
        quantiles = [f"{np.quantile(scores, 1 - rate, method='higher'):.3f}" for rate in (1e-2, FALSE_POSITIVES)]
        body.append(
            (
                system,
                f"{len(scores):,}",
                f"{false.hits} ({false.value:.4f}, at most {false.interval[1]:.4f})",
                *quantiles,
                f"{scores.max():.3f}",
                f"{results.threshold(system):.3f}",
            )
        )
    heads = ("", "clips", "found at its own threshold", "1 of 100 scores", "1 of 1,000", "highest", "threshold here")
    return f"{_table(heads, body)}\n\n{UNMARKED_WORDS}"


def _quality(results: Results) -> str:
    body = []
    for system in results.systems:
        cells = []
        for name, digits in (("si_snr", 1), ("pesq", 2), ("stoi", 3)):
            values = results.figures(system, name)
            both = (np.mean(values), np.min(values)) if values else ()
            cells += [f"{value:.{digits}f}" for value in both] or ["not measured", ""]
        body.append((system, *cells))
    heads = ("", "SI-SNR dB, mean", "lowest", "PESQ-WB, mean", "lowest", "STOI, mean", "lowest")
    return _table(heads, body)


def _splices(results: Results) -> str:
    body = []
    for inside, form, registry in product(("marked", "unmarked"), SPLICE_FORMS, (False, True)):
        overlaps, errors = results.splices(inside, form, registry=registry)
        if errors:
            ordered = np.sort(errors)
            within = np.mean(ordered <= 0.05)
            ranks = [ordered[int(rate * (len(ordered) - 1))] * 1000 for rate in (0.5, 0.9)]
            figures = (f"{np.mean(overlaps):.3f}", *(f"{rank:.0f}" for rank in ranks), f"{within:.2f}")
            body.append((inside, form, "yes" if registry else "no", *figures))
    heads = ("set in", "file", "registry", "overlap (IoU)", "border off by, median ms", "9 of 10 within ms", "in 50 ms")
    return _table(heads, body)


def _speed(results: Results) -> str:
    names = ("embed", "verify", "find", "find_nothing")
    body = [(system, *(f"{results.speed(system, name):.3f}" for name in names)) for system in results.systems]
    heads = ("", "embed", "look, as made", "look with search, marked", "look with search, unmarked")
    return _table(heads, body)


def _versions() -> str:
    known = []
    for name in PACKAGES:
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            known.append(f"no {name}")
    return ", ".join(known)


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return models[0] if models else platform.machine()
