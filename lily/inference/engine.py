"""The whole path of a recording, as one stream of events.

    analyze   file -> level, cutoff                                               (pass 1)
    read      file -> low-pass -> log-mel -> global encoder -> context, once      (pass 2)
    generate  file -> low-pass -> log-mel -> chunks -> latents -> sampler -> log-mel
                   -> vocoder -> splice: input below the cutoff, generated above  (pass 3)

``run`` is the loop that does it, for one recording or many; ``stream``, ``compare`` and
``run_inference`` are the ways to start it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from lily.checkpoints.folder_config import weights_sha256
from lily.checkpoints.model_folder import load_model
from lily.checkpoints.resolve import with_weights
from lily.config.inference import InferenceConfig
from lily.config.presets import Config, mel_config
from lily.config.sections import build
from lily.dsp.mel import LogMel
from lily.errors import InputError, LilyError
from lily.inference.batching import Batch, Batcher, Recording
from lily.inference.device import choose_device, choose_precision, place
from lily.inference.events import ChunksDone, Event, Failed, Finished, UpsampleResult
from lily.inference.memory import items_for, predicted_bytes
from lily.inference.options import UpsampleOptions
from lily.inference.output import OutputPaths
from lily.inference.profiles import completed
from lily.inference.reading import RecordingReader
from lily.inference.recording import RecordingRun
from lily.inference.runtime import Runtime
from lily.inference.sample import ChunkSampler, Sampler
from lily.model.global_encoder import GlobalContext


class InferenceEngine:
    """A loaded model, ready to run recordings."""

    def __init__(self, config: Config, device: str = "auto", precision: str = "auto") -> None:
        """Load the configuration's weights; raises WeightsError, ConfigError and InputError."""
        self.config = config = with_weights(config)
        self.name = str(config.get("name", "model"))
        settings = build(InferenceConfig, config["inference"], "inference")
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device, settings.large)
        self.settings = replace(settings, batch=items_for(settings, self.device, self.precision))
        self.model = place(load_model(config), self.device, self.precision)
        self.mel = LogMel(mel_config(config.get("preprocessing", {})))
        self.sample_rate = self.mel.config.sample_rate
        self.sampler: Sampler = ChunkSampler(self.model, self.settings, self.device, self.precision)

    def run_inference(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        progress_callback: Callable[[int, int], None] | None = None,
        **options: object,
    ) -> UpsampleResult:
        """Restore one recording and write ``output_dir/<stem>.<format>``.

        ``options`` are the fields of UpsampleOptions; ``progress_callback(done_chunks,
        total_chunks)``. Raises InputError, and leaves no incomplete output.
        """
        for event in self.stream(audio_path, output_dir, UpsampleOptions(**options)):  # type: ignore[arg-type]
            if isinstance(event, ChunksDone) and progress_callback is not None:
                progress_callback(event.done, event.total)
            if isinstance(event, Finished):
                return event.result
        raise RuntimeError("the stream ended without a result")

    def stream(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions | None = None,
        *,
        stop: threading.Event | None = None,
        context: GlobalContext | None = None,
    ) -> Iterator[Event]:
        """Restore one recording; yields events, the last one with the result.

        Once ``stop`` is set the run ends within a sampler step: the result has the chunks that are
        finished, or Stopped is raised if there is none. Closing the generator cancels the run.
        ``context`` replaces the recording's own. Raises InputError.
        """
        recording = self.recording(audio_path, output_dir, options, context=context)
        for _, event in self.run([recording], stop):
            if isinstance(event, Failed):
                raise event.error
            yield event

    def compare(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions | None = None,
        stems: bool = False,
        *,
        stop: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Restore one recording with the encoder off and on; each output as in a run alone.

        ``options.encoder`` and ``options.format`` are ignored. ``stems`` adds the recording at
        48 kHz and the band that both variants keep of it. Otherwise as ``stream``; raises
        InputError if there is nothing to compare.
        """
        options = options or UpsampleOptions()
        if not self.model.encoder_is_trained:
            raise InputError(
                f"The global encoder of {self.name} is untrained: on and off give the same "
                "samples, so there is nothing to compare; choose a model whose encoder is trained."
            )
        stem, folder = Path(audio_path).stem, Path(output_dir)
        off, on, difference, input_path, low = (
            folder / f"{stem}.{name}.wav" for name in ("off", "on", "diff", "input", "low")
        )
        recording = RecordingRun(
            self.runtime,
            Path(audio_path),
            self.completed(replace(options, encoder=True)),
            OutputPaths((off, on), difference, *((input_path, low) if stems else ())),
            encoders=(False, True),
            seed_drawn=options.seed is None,
        )
        for _, event in self.run([recording], stop):
            if isinstance(event, Failed):
                raise event.error
            yield event

    def recording(
        self,
        audio_path: str | Path,
        output_dir: str | Path,
        options: UpsampleOptions | None = None,
        *,
        context: GlobalContext | None = None,
    ) -> RecordingRun:
        """A run that has not begun, for ``run``; raises InputError for wrong options."""
        options = options or UpsampleOptions()
        chosen = self.completed(options)
        return RecordingRun(
            self.runtime,
            Path(audio_path),
            chosen,
            OutputPaths((Path(output_dir) / f"{Path(audio_path).stem}.{chosen.format}",)),
            encoders=(chosen.encoder,),
            context=context,
            seed_drawn=options.seed is None,
        )

    def run(
        self, recordings: Iterable[Recording], stop: threading.Event | None = None
    ) -> Iterator[tuple[Recording, Event]]:
        """Run recordings through shared batches; yields (recording, event) pairs.

        The recordings are begun one after the other. An error of one ends it alone, with a
        ``Failed`` event. To abandon all of them, close the iterator. To end within a sampler step
        and keep the finished chunks, which then pass the vocoder, set ``stop``.
        """
        stop = stop or threading.Event()
        with Batcher(self.sampler) as batcher:
            # Each recording: analyze, read the context, plan, cut into chunk items.
            for batch in batcher.batches(recordings):
                event = None if isinstance(batch, Batch) else batch
                if event:
                    yield event
                if stop.is_set():
                    break
                if event:
                    continue
                try:
                    # Each batch: encode, denoise step by step, decode to log-mels.
                    for step in self.sampler.steps(batch.items):
                        if step.log_mels is None:
                            yield from batch.sampling(step)
                        else:
                            # Each chunk: blend, vocode, splice, write.
                            for recording, sampled in batch.sampled(step):
                                events = recording.add(step.variant, sampled)
                                yield from batcher.attempt(recording, events)
                        if stop.is_set():
                            break
                except LilyError as error:
                    yield from batcher.fail(batch.recordings, error)
                yield from batcher.finish_complete()
            yield from batcher.finish_all()

    def context_of(
        self, audio_path: str | Path, options: UpsampleOptions | None = None
    ) -> GlobalContext:
        """The context of a recording alone; raises InputError as ``stream`` does."""
        chosen = self.completed(options or UpsampleOptions())
        reader = RecordingReader(self.runtime, Path(audio_path), chosen)
        for _ in chain(reader.analyze(), reader.prepare(chosen.seed or 0), reader.read_context()):
            continue
        return reader.context

    def completed(self, options: UpsampleOptions) -> UpsampleOptions:
        """The options with the preset's defaults filled in; raises InputError for a wrong one."""
        return completed(options, self.config, secrets.randbelow(self.settings.seed_max))

    @cached_property
    def weights_sha256(self) -> tuple[str, ...]:
        """SHA-256 of each weights file, computed when it is first needed."""
        return weights_sha256(self.config)

    @property
    def runtime(self) -> Runtime:
        """What runs need to know of the model."""
        return Runtime(
            name=self.name,
            config=self.config,
            weights_sha256=self.weights_sha256,
            model=self.model,
            mel=self.mel,
            settings=self.settings,
            device=self.device,
            precision=self.precision,
            sampler=self.sampler,
            memory=predicted_bytes(self.settings, self.precision),
        )
