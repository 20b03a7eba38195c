"""What the comparison prints: one table in Markdown, and on what it was measured."""

import datetime
import os
import platform
import re
import statistics

BEGIN, END = "<!-- costs -->", "<!-- end of costs -->"
# Ratios are to this one.
YARDSTICK = "HAProxy"


def markdown(results, peers, given):
    """The table, and one paragraph on how it came about."""
    names = [peer.name for peer in peers]
    lines = [
        f"| us of CPU per request (ratio to {YARDSTICK}) | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for row, costs, wrong in results:
        cells = [cell(costs, wrong, name) for name in names]
        lines.append(f"| {row.text} | " + " | ".join(cells) + " |")
    versions = ", ".join(f"{peer.name} {peer.version()}" for peer in peers)
    return "\n".join([*lines, "", f"{machine()}; {versions}. {method(results, given)}"])


def cell(costs, wrong, name):
    """Microseconds, then the ratio in the same round and how far the rounds lie from their middle."""
    if name in wrong:
        return "failed"
    if not costs.get(name):
        return "-"
    text = f"{statistics.median(costs[name]) / 1000:.1f}"
    # A proxy that failed later on has fewer rounds, and no figure to compare with.
    if name != YARDSTICK and costs.get(YARDSTICK) and YARDSTICK not in wrong:
        ratios = [mine / its for mine, its in zip(costs[name], costs[YARDSTICK], strict=True)]
        apart = f" ± {(max(ratios) - min(ratios)) / 2:.2f}" if len(ratios) > 1 else ""
        text += f" ({statistics.median(ratios):.2f}{apart})"
    return text


def method(results, given):
    """How the figures came about, and whether all of them did."""
    failures = [f"{row.name}: {name}" for row, _, wrong in results for name in wrong]
    outcome = f"Failed: {', '.join(failures)}." if failures else "No request failed."
    return (f"64 requests at once; medians of {given.rounds} runs of {given.seconds} s, in turn with all others;"
            f" ratios are those within a round, ± half the distance between the outermost. {outcome}")


def machine():
    """The day, and what the figures were measured on."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    day = datetime.datetime.now(datetime.timezone.utc).date()
    return (f"{day}; {os.cpu_count()} cores of {model[1] if model else platform.machine()},"
            f" Linux {platform.release()}")


def update(readme, text):
    """Puts the table between its marks."""
    whole = readme.read_text()
    if BEGIN not in whole or END not in whole:
        raise SystemExit(f"README.md has no {BEGIN} with an {END}")
    before, rest = whole.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
