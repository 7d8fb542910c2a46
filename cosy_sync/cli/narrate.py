"""`cosy-sync narrate`: a long text in, one sound file out, with subtitles if wanted."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cosy_sync import (
    BatchError,
    CosyClient,
    CosyError,
    InterruptedBatch,
    InvalidTextError,
    Narration,
    NarrationConfig,
)
from cosy_sync.audio.sound_file import format_of
from cosy_sync.cli.console import Screen, emit
from cosy_sync.cli.exits import CODES, Exit, Stop, because, code_for, words_of
from cosy_sync.cli.options import add_lexicon, add_service_options, hasty, make_client, number
from cosy_sync.cli.report.figures import duration, speech
from cosy_sync.cli.silence import Silence
from cosy_sync.cli.source import check_kind, read_text
from cosy_sync.cli.target import refuse_old, try_writing, write_whole

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  cosy-sync narrate chapter.txt -o chapter.mp3 --srt
  cosy-sync narrate chapter.txt -o chapter.wav --srt sub.srt --vtt --line-length 20
  cosy-sync narrate film.srt -o dubbed.flac            each cue at its time
  cosy-sync narrate - -o note.opus < note.txt

Blank lines end paragraphs, and [pause:1.5s] is a pause. The file appears when it is complete, or
not at all. MP3, Opus, Ogg and FLAC need soundfile; see docs/formats.md.
"""
_SUBTITLES = (".srt", ".vtt")
_SHOWN_FAILURES = 10
_MAX_SPEED = 1.3
# What `--srt` means without a name: beside the sound.
_BESIDE = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "narrate",
        help="speak a long text, or subtitles, into one file",
        description="Speak a text of any length, or subtitles, into one sound file.",
        epilog=f"{_EXAMPLES}\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="a UTF-8 text, .srt or .vtt; - for stdin")
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        required=True,
        help="the sound file: .wav, .mp3, .opus, .ogg, .flac or .pcm",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="leave silence where a part fails (default: write no file)",
    )
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")
    _add_subtitles(parser.add_argument_group("subtitles"))
    _add_sound(parser.add_argument_group("the sound"))
    add_service_options(parser, format=False)
    add_lexicon(parser)
    parser.set_defaults(run=run)


def _add_subtitles(group: argparse._ArgumentGroup) -> None:
    for kind in ("srt", "vtt"):
        group.add_argument(
            f"--{kind}",
            nargs="?",
            const=_BESIDE,
            metavar="PATH",
            help=f"write them too (default: beside the sound, as .{kind})",
        )
    group.add_argument(
        "--line-length",
        type=number(int, 1, 1000),
        metavar="N",
        help="characters in a line; letters count a third (default: whole sentences)",
    )
    group.add_argument(
        "--max-speed",
        type=number(float, 0.25, 4),
        metavar="X",
        help=f"of subtitles spoken that are too long for their time (default: {_MAX_SPEED:g})",
    )


def _add_sound(group: argparse._ArgumentGroup) -> None:
    default = NarrationConfig()
    for name, value, what in (
        ("sentence-pause", default.sentence_pause, "between sentences"),
        ("paragraph-pause", default.paragraph_pause, "between paragraphs"),
    ):
        group.add_argument(
            f"--{name}",
            type=number(float, 0, 60),
            metavar="SECONDS",
            help=f"of silence {what} (default: {value:g})",
        )
    group.add_argument("--trim", action="store_true", help="cut silence at the ends of sentences")
    group.add_argument(
        "--whole-paragraphs",
        action="store_true",
        help="speak each paragraph as one text: its intonation runs on (default: its sentences)",
    )
    group.add_argument(
        "--quality",
        dest="file_quality",
        type=number(float, 0, 1),
        metavar="X",
        help="of MP3, Opus and Ogg: 0 is the smallest file, 1 the best",
    )


def run(args: argparse.Namespace) -> int:
    """Speak the file; return the exit code. Raises Stop and CosyError."""
    output = Path(args.output)
    if args.output == "-":
        raise Stop("-o -: give a file's name; only `cosy-sync synth` writes to standard output")
    format_of(output)  # raises ConfigError
    files = _files(args, output)
    _refuse_useless(args)
    if Path(args.file).suffix.lower() not in _SUBTITLES:
        check_kind(args.file, "-")
    if not args.overwrite:
        for path in files.values():
            refuse_old(path)
    text = read_text(args.file)
    silence = Silence()
    client = make_client(args, observers=[silence])
    started = time.monotonic()
    with client, Screen(bar=not args.no_progress, trouble=silence.words) as screen:
        narration = _speak(args, client, screen, text)
    _write_subtitles(args, files, narration)
    _tell(narration, files, time.monotonic() - started)
    return Exit.FAILED if any(not segment.ok for segment in narration.segments) else Exit.DONE


def _refuse_useless(args: argparse.Namespace) -> None:
    """Raise Stop for options that would do nothing."""
    subtitles = Path(args.file).suffix.lower() in _SUBTITLES
    for option, given, does, where in (
        (
            "--line-length",
            args.line_length,
            args.srt is not None or args.vtt is not None,
            "--srt or --vtt",
        ),
        ("--max-speed", args.max_speed, subtitles, "a file of subtitles"),
        ("--sentence-pause", args.sentence_pause, not subtitles, "a text"),
        ("--paragraph-pause", args.paragraph_pause, not subtitles, "a text"),
        ("--whole-paragraphs", args.whole_paragraphs or None, not subtitles, "a text"),
    ):
        if given is not None and not does:
            raise Stop(f"{option} does nothing here: it is for {where}")


def _files(args: argparse.Namespace, output: Path) -> dict[str, Path]:
    """Return what is written: the sound, and the subtitles that are wanted."""
    files = {"sound": output}
    for kind in ("srt", "vtt"):
        given = getattr(args, kind)
        if given is not None:
            files[kind] = Path(given) if given != _BESIDE else output.with_suffix(f".{kind}")
    _check_places({"input": Path(args.file), **files})
    return files


def _check_places(files: dict[str, Path]) -> None:
    """Raise Stop where two files are one, or one cannot be written, before anything is sent."""
    seen: dict[Path, str] = {}
    for what, path in files.items():
        place = path.resolve()
        if place in seen:
            raise Stop(f"{path} would be {seen[place]} and {what}: give them names of their own")
        seen[place] = what
        if what != "input":
            if path.is_dir():
                raise Stop(f"{path} is a directory: give a file's name")
            try_writing(path.parent)


def _speak(args: argparse.Namespace, client: CosyClient, screen: Screen, text: str) -> Narration:
    """Speak a text, or subtitles. Raises Stop, which names the parts that failed."""
    view = hasty(client).with_options(narration=_narration(args, client.config.narration))

    def draw(done: int, total: int) -> None:
        screen.total = total
        screen.draw(done)

    on_error: Literal["return", "raise"] = "return" if args.keep_going else "raise"
    try:
        if Path(args.file).suffix.lower() in _SUBTITLES:
            return view.dub(text, max_speed=args.max_speed, to=args.output, on_error=on_error)
        return view.narrate(text, to=args.output, on_error=on_error, progress=draw)
    except BatchError as error:
        raise _failed(error, advise=not args.keep_going) from error
    except InterruptedBatch as interrupt:
        spoken = len(interrupt.outcomes)
        words = f"interrupted with {spoken:,} parts spoken; no file was written"
        raise Stop(words, Exit.INTERRUPTED) from interrupt
    except OSError as error:
        raise Stop(f"cannot write {args.output}: {because(error)}", Exit.FAILED) from error
    except InvalidTextError as error:
        raise Stop(f"{args.file}: {error.message}") from error


def _narration(args: argparse.Namespace, usual: NarrationConfig) -> NarrationConfig:
    """Return what the options say, and what the environment says where they say nothing."""
    given = {
        "sentence_pause": args.sentence_pause,
        "paragraph_pause": args.paragraph_pause,
        "quality": args.file_quality,
        "trim": args.trim or None,
        "whole_paragraphs": args.whole_paragraphs or None,
    }
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


def _failed(error: BatchError, *, advise: bool) -> Stop:
    failed = [outcome for outcome in error.outcomes if outcome.error is not None]
    first = failed[0].error
    assert first is not None
    advice = " (--keep-going leaves silence in their place)" if advise else ""
    return Stop(
        f"{len(failed)} of {len(error.outcomes)} parts failed, and no file was written{advice}. "
        f"Part {failed[0].index + 1}: "
        f"{type(first).__name__}: {words_of(first)}",
        code_for(first),
    )


def _write_subtitles(
    args: argparse.Namespace, files: dict[str, Path], narration: Narration
) -> None:
    for kind in ("srt", "vtt"):
        if kind in files:
            make = narration.srt if kind == "srt" else narration.vtt
            try:
                write_whole(files[kind], make(args.line_length))
            except OSError as error:
                raise Stop(f"cannot write {files[kind]}: {because(error)}", Exit.FAILED) from error


def _tell(narration: Narration, files: dict[str, Path], seconds: float) -> None:
    names = ", ".join(str(path) for path in files.values())
    emit(f"{names}: {speech(narration.duration)} of speech in {duration(seconds)}")
    failed = [segment for segment in narration.segments if segment.error is not None]
    late = [segment for segment in narration.segments if segment.overrun > 0]
    for segment in failed[:_SHOWN_FAILURES]:
        error = segment.error
        assert isinstance(error, CosyError)
        emit(f"part {segment.index + 1} failed: {type(error).__name__}: {words_of(error)}")
    for segment in late[:_SHOWN_FAILURES]:
        emit(f"cue {segment.index + 1} is {segment.overrun:.2f} s too long for its time")
    more = max(0, len(failed) - _SHOWN_FAILURES) + max(0, len(late) - _SHOWN_FAILURES)
    if more:
        emit(f"and {more} more")
