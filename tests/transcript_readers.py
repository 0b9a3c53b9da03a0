"""A transcriber that counts its calls, and what reads its transcripts; a module, so that workers find it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from cdslm_eval import Mean
from cdslm_eval.plugin.contract import Failed, Metric, Options, Recognizer, Transcriber


class LogOptions(Options):
    log: str = ""


class Counting(Transcriber):
    """Transcribes the clip's key, spelt out; logs the clips of its calls."""

    name = "counting"
    Options = LogOptions
    batch_clips = 3

    def transcribe(self, clips):
        for clip in clips:
            with Path(self.options.log).open("a") as log:
                print(clip.key, file=log)
            if clip.key == "c03":
                time.sleep(60)
            yield Failed("mumbled") if clip.key == "c02" else f"{clip.key} said"


class Letters(Recognizer):
    """The letters of the transcript."""

    name = "letters"
    inventory = "letters"
    needs: ClassVar[set[str]] = {"transcript"}

    def recognize(self, clips):
        for clip in clips:
            yield list(clip.transcript.replace(" ", ""))


class Reads(Metric):
    """How many words were transcribed, and whether they are the text."""

    name = "reads"
    needs: ClassVar[set[str]] = {"transcript"}
    wants: ClassVar[set[str]] = {"text"}
    statistics: ClassVar[dict] = {"words": Mean("words"), "right": Mean("right")}

    def measure(self, clips):
        for clip in clips:
            yield {"words": len(clip.transcript.split()), "right": float(clip.transcript == clip.text)}


class ReadsPhones(Metric):
    """Phones per transcript."""

    name = "reads_phones"
    needs: ClassVar[set[str]] = {"phones", "transcript"}
    statistics: ClassVar[dict] = {"phones": Mean("phones")}

    def measure(self, clips):
        for clip in clips:
            yield {"phones": len(clip.phones), "heard": clip.transcript}
