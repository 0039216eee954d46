"""A detection's report as a page of paper. What counts is the signed file inside it."""

from __future__ import annotations

from fpdf import FPDF

from vivavoce.provenance.report import ATTACHMENT, MEANINGS, Report, rows

_MARGIN, _WIDTH, _LINE, _BAR = 20.0, 170.0, 5.5, 8.0  # millimetres


def report_pdf(report: Report, signed: str) -> bytes:
    """Write a report as PDF.

    Args:
        report: What it says, checked.
        signed: The signed file, which is attached.
    """
    pdf = FPDF(format="A4")
    pdf.set_title("Vivavoce detection report")
    pdf.set_creation_date(report.issued_at)
    pdf.set_margins(_MARGIN, _MARGIN)
    pdf.add_page()
    _text(pdf, "Vivavoce detection report", 18, bold=True)
    found = report.finding
    _text(pdf, found.verdict.replace("_", " "), 14, bold=True)
    _text(pdf, MEANINGS.get(found.verdict, ""), 11)
    _timeline(pdf, report)
    for name, value in rows(report):
        _text(pdf, name, 9, bold=True)
        _text(pdf, value, 9)
    _text(
        pdf,
        "This page is only a picture of the report. What counts is the signed file attached to this document; "
        "`vivavoce detect --verify-report FILE --key KEYS` checks it on any machine, without a network.",
        9,
    )
    pdf.embed_file(basename=ATTACHMENT, bytes=signed.encode(), mime_type="application/json")
    return bytes(pdf.output())


def _timeline(pdf: FPDF, report: Report) -> None:
    """A bar as long as the sound, dark where it is marked."""
    top = pdf.get_y() + 2
    pdf.set_fill_color(225, 225, 225)
    pdf.rect(_MARGIN, top, _WIDTH, _BAR, style="F")
    pdf.set_fill_color(20, 110, 90)
    for one in report.finding.segments:
        start, end = (min(1.0, at / report.sound.seconds) * _WIDTH for at in (one.start_s, one.end_s))
        pdf.rect(_MARGIN + start, top, end - start, _BAR, style="F")
    pdf.set_y(top + _BAR + 3)


def _text(pdf: FPDF, text: str, size: int, *, bold: bool = False) -> None:
    pdf.set_font("Helvetica", "B" if bold else "", size)
    # The built-in fonts know Latin-1; a signer's name may hold anything.
    shown = text.encode("latin-1", "replace").decode("latin-1")
    pdf.multi_cell(_WIDTH, _LINE * max(1.0, size / 11), shown, new_x="LMARGIN", new_y="NEXT")
