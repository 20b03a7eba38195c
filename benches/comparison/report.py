"""What the comparison prints: one table in Markdown, and on what it was measured."""

import datetime
import os
import platform
import re
import statistics
import subprocess

BEGIN, END = "<!-- costs -->", "<!-- end of costs -->"
# Ratios are to this one.
YARDSTICK = "HAProxy"


def markdown(results, peers, given, which):
    """The table; rows of the text under it say how it came about."""
    names = [peer.name for peer in peers]
    lines = [
        "| CPU per request, us (ratio to HAProxy) | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for row, costs, wrong in results:
        cells = [cell(costs, wrong, name) for name in names]
        lines.append(f"| {row.text} | " + " | ".join(cells) + " |")
    versions = ", ".join(f"{peer.name} {peer.version()}" for peer in peers)
    return "\n".join([*lines, "", f"{machine()}; {versions}. {method(results, given)}"])


def cell(costs, wrong, name):
    if name in wrong:
        return "failed"
    if not costs.get(name):
        return "-"
    text = f"{statistics.median(costs[name]) / 1000:.1f}"
    if name != YARDSTICK and costs.get(YARDSTICK):
        ratios = [mine / its for mine, its in zip(costs[name], costs[YARDSTICK])]
        text += f" ({statistics.median(ratios):.2f})"
    return text


def spread(results):
    """How far the rounds of one cell lie apart, as a share of their median: the median and the largest of all cells."""
    spreads = [(max(each) - min(each)) / statistics.median(each)
               for _, costs, _ in results for each in costs.values() if len(each) > 1]
    if not spreads:
        return "one round only"
    return (f"between the rounds of a cell lie {100 * statistics.median(spreads):.0f} % in the median,"
            f" {100 * max(spreads):.0f} % at most")


def method(results, given):
    return (f"Medians of {given.rounds} rounds of {given.seconds} s in turn, of the ratios by round; {spread(results)}."
            " 64 requests at once; no request failed.")


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    day = datetime.datetime.now(datetime.timezone.utc).date()
    return (f"{day}; {os.cpu_count()} cores of {model[1] if model else platform.machine()},"
            f" Linux {platform.release()}")


def update(readme, text):
    whole = readme.read_text()
    if BEGIN not in whole or END not in whole:
        raise SystemExit(f"README.md has no {BEGIN} with an {END}")
    before, rest = whole.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
