"""What a person sees of the demo, on standard output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from testbed.analysis.captions import Caption

_SPEAKER_COLOURS: Final = ("cyan", "magenta", "yellow", "green")
_MIB: Final = 1 << 20
_WIDTH_IN_FILES: Final = 130


class Show:
    """Prints; knows nothing of how things are done."""

    def __init__(self, console: Console | None = None) -> None:
        if console is None:
            console = Console(highlight=False)
            if not console.is_terminal:
                console.width = _WIDTH_IN_FILES
        self._console = console
        self._colours: dict[str, str] = {}

    def title(self, text: str) -> None:
        """Begin a part."""
        self._console.print(Text(f"\n{text}", style="bold"))

    def line(self, text: str) -> None:
        self._console.print(Text(f"  {text}"))

    def server(self, name: str, where: str) -> None:
        """A process is ready."""
        self._console.print(Text.assemble("  ", (f"{name:<20}", "bold"), where))

    def caption(self, caption: Caption, lag_s: float | None) -> None:
        """One live caption, as it comes: `00:12.4  Bob  start the recording  (0.9 s)`."""
        minutes, seconds = divmod(max(caption.received_s, 0.0), 60)
        name = caption.speaker.split()[0] if caption.speaker else "?"
        colour = self._colours.setdefault(
            name, _SPEAKER_COLOURS[len(self._colours) % len(_SPEAKER_COLOURS)]
        )
        lag = "" if lag_s is None else f"  ({lag_s:.1f} s)"
        self._console.print(
            Text.assemble(
                (f"  {int(minutes):02}:{seconds:04.1f}", "dim"),
                (f"  {name:<6}", colour),
                f"  {caption.text}",
                (lag, "dim"),
            )
        )

    def failure(self, text: str) -> None:
        self._console.print(Text(f"\n{text}", style="bold red"))

    def success(self, text: str) -> None:
        self._console.print(Text(f"\n{text}", style="bold green"))

    @contextmanager
    def progress(self) -> Iterator[JobProgress]:
        """Bars of what the jobs do after the call."""
        with Progress(
            TextColumn("  {task.fields[job]:<12}"),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=self._console,
            transient=False,
        ) as bars:
            yield JobProgress(bars)

    def summary(self, summary: Mapping[str, Any]) -> None:
        """The tables at the end."""
        self._console.print()
        self._console.print(_sentence_table(summary["sentences"]))
        self._console.print(_process_table(summary["processes"]))
        self._console.print(_figure_table(summary))
        self._console.print(_check_table(summary["checks"]))


class JobProgress:
    """One bar per job."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def update(self, job: str, stage: str, done: int, total: int) -> None:
        """Where a job is."""
        if job not in self._tasks:
            self._tasks[job] = self._bars.add_task(stage, job=job, total=total)
        self._bars.update(self._tasks[job], description=stage, completed=done, total=total)


def _sentence_table(sentences: list[dict[str, Any]]) -> Table:
    table = Table(title="What was said", title_justify="left", title_style="bold", box=None)
    for name in ("at", "speaker", "sentence"):
        table.add_column(name)
    for name in ("errors", "recorded", "captions", "last after"):
        table.add_column(name, justify="right")
    for sentence in sentences:
        rate = sentence["word_error_rate"]
        table.add_row(
            f"{sentence['at_s']:.1f} s",
            sentence["speaker"],
            sentence["text"],
            Text("–" if rate is None else f"{rate * 100:.0f} %", style="red" if rate else ""),
            _milliseconds(sentence["placement_error_s"], sign=True),
            str(sentence["captions"]),
            _seconds(sentence["last_caption_after_end_s"]),
        )
    return table


def _process_table(processes: list[dict[str, Any]]) -> Table:
    table = Table(title="\nProcesses", title_justify="left", title_style="bold", box=None)
    table.add_column("process")
    for name in ("CPU", "peak memory", "start to joined"):
        table.add_column(name, justify="right")
    for process in processes:
        table.add_row(
            process["name"],
            _seconds(process["cpu_s"]),
            f"{process['peak_rss_bytes'] / _MIB:.0f} MiB",
            _seconds(process["start_to_joined_s"]),
        )
    return table


def _figure_table(summary: Mapping[str, Any]) -> Table:
    table = Table(
        title="\nFigures", title_justify="left", title_style="bold", box=None, show_header=False
    )
    lag, offset = summary["caption_lag_s"] or {}, summary["av_offset_s"] or {}
    rate = summary["word_error_rate"]
    table.add_row(
        "recorded",
        f"{_seconds(summary['recorded_s'])} of {_seconds(summary['started_to_stopped_s'])}",
    )
    table.add_row("word error rate", "–" if rate is None else f"{rate * 100:.1f} %")
    table.add_row("caption lag", f"p50 {_seconds(lag.get('p50'))}, p95 {_seconds(lag.get('p95'))}")
    table.add_row(
        "picture after sound",
        f"median {_milliseconds(offset.get('median'), sign=True)}, "
        f"worst {_milliseconds(offset.get('worst'), sign=True)}",
    )
    return table


def _check_table(checks: list[dict[str, Any]]) -> Table:
    table = Table(
        title="\nChecks", title_justify="left", title_style="bold", box=None, show_header=False
    )
    for check in checks:
        mark = Text("✓", style="green") if check["ok"] else Text("✗ FAILED", style="bold red")
        table.add_row(
            mark, check["name"], Text(check["detail"], style="" if check["ok"] else "red")
        )
    return table


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _milliseconds(value_s: float | None, *, sign: bool = False) -> str:
    if value_s is None:
        return "–"
    return f"{value_s * 1000:+.0f} ms" if sign else f"{value_s * 1000:.0f} ms"
