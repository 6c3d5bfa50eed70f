"""The worker process as a whole: the models it loads, the threads it runs, and what its tasks do with them."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import Event, Thread

import structlog

from app.contract.adapters import ExportReply, ExportRequest, ImportReply, ImportRequest
from app.contract.messages import Announcement, ClassifyBatch, ClassifyReply, PlanReply, PlanRequest
from app.contract.names import EXPORT_TASK, IMPORT_TASK, PLAN_TASK, classify_queue, tune_queue
from app.contract.plain import PlainContext
from app.contract.traces import record
from app.contract.version import VERSION
from app.records.connection import connect
from app.records.store import Records
from worker.adapters import exported
from worker.answering import Answering
from worker.artifacts import Artifacts
from worker.bus import Announcer, WorkerBus
from worker.classification.classify import classify
from worker.classification.pinning import PinningThread
from worker.classification.plain import prepare_plain
from worker.classification.preparing import prepare
from worker.classification.residency import ResidencyThread
from worker.classification.resident import Resident, ResidentContexts
from worker.classification.together import Expired, Stopwatch, Together
from worker.config import ModelSource, WorkerSettings
from worker.cpt.model.sentence_encoder import SentenceEncoder
from worker.device import Device
from worker.devices import make_current, resident_bytes, resolve, state
from worker.encoders import load_encoders
from worker.importing import imported
from worker.jobs.plan_threads import PlanThreads
from worker.jobs.planning import planned
from worker.jobs.thread import TuningThread
from worker.models import LanguageModel, load_language_model

#: How long a worker that ends waits for its running job to be given back.
_GIVE_BACK_SECONDS = 20.0
_WATCH_SECONDS = 0.5


class Host:
    """One worker process on one device. `load`, then `start`; `stop` ends it in order.

    ``on_failure`` is called, from a thread of its own, once the process cannot go on: it must end then.
    """

    def __init__(self, settings: WorkerSettings, on_failure: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._on_failure = on_failure
        self._id = f"worker-{secrets.token_hex(6)}"
        self._bus = WorkerBus(settings.bus_url, settings.place or self._id)
        self._answering = Answering(self._bus, self._id)
        self._artifacts = Artifacts(settings.artifacts_url)
        self._device = Device()
        self._models = settings.own_models
        self._together = {model_id: Together(self._device) for model_id in self._models}
        self._bases: dict[str, LanguageModel] = {}
        self._encoders: dict[tuple[str, str], tuple[SentenceEncoder, ...]] = {}
        self._unsupported: dict[str, str] = {}
        self._stages: dict[str, str] = dict.fromkeys(self._models, "starting")
        self._residents: dict[str, ResidentContexts] = {}
        self._announcer = Announcer(self._bus, self._announcements)
        self._records = Records(connect(settings.store_url), artifacts_url=settings.artifacts_url)
        answers = {
            PLAN_TASK: self.answer_plan,
            EXPORT_TASK: self.answer_export,
            IMPORT_TASK: self.answer_import,
        }
        self._plans = PlanThreads(settings.bus_url, list(self._models), answers)
        self._tuning: TuningThread | None = None
        self._pinning: PinningThread | None = None
        self._residency = ResidencyThread(settings.bus_url, self._id, self._residents)
        self._stopping = Event()
        self._ended = Event()
        self._failure: str | None = None

    @property
    def queues(self) -> list[str]:
        """Celery queues of the models that this worker is for; once they are loaded, of their files too."""
        queues = [queue(model_id) for model_id in self._models for queue in (classify_queue, tune_queue)]
        return [*queues, *(classify_queue(model_id, base.files) for model_id, base in self._bases.items())]

    @property
    def failure(self) -> str | None:
        """Why the process cannot go on, if that is so: a thread that is gone, or a device that takes no more work."""
        return self._failure

    def load(self) -> None:
        """Load every model, announcing each stage, or that it is not supported.

        Raises OSError if a model is not there, and `NoSuchDevice` if the worker's device is not.
        """
        own_device = resolve(self._settings.device)
        self._device.run(partial(make_current, own_device))
        self._announcer.start()
        for model_id, source in self._models.items():
            try:
                device = own_device if source.device == "auto" else resolve(source.device)
                self._load(model_id, source.model_copy(update={"device": device}))
            except ValueError as error:
                self._unsupported[model_id] = str(error)
                structlog.get_logger().error("model_unsupported", model=model_id, reason=str(error))
        for model_id, base in self._bases.items():
            capacity = self._settings.resident_bytes or resident_bytes(base.device)
            prepare_here = partial(self._prepare, base)
            plain_here = partial(self._prepare_plain, base)
            share = capacity // len(self._bases)
            self._residents[model_id] = ResidentContexts(self._artifacts, prepare_here, share, plain_here)
        self._announcer.announce_now()

    def _load(self, model_id: str, source: ModelSource) -> None:
        started = time.monotonic()
        folder, enter = self._settings.data_dir / "models", partial(self._enter, model_id)
        base = self._device.run(partial(load_language_model, model_id, source, folder, enter))
        encoders = source.encoder or self._settings.encoder, base.device
        if encoders not in self._encoders:  # models share them
            self._encoders[encoders] = self._device.run(partial(load_encoders, *encoders, folder, enter))
        self._bases[model_id] = replace(base, encoders=self._encoders[encoders])
        structlog.get_logger().info(
            "model_loaded", model=model_id, device=base.device, seconds=round(time.monotonic() - started, 1)
        )

    def start(self) -> None:
        """Begin to claim jobs, to answer plans, and to keep the pinned contexts resident."""
        self._plans.start()
        self._residency.start()
        if self._settings.pinned_contexts:
            self._pinning = PinningThread(self._records, self._residents, self._settings.pinned_contexts)
            self._pinning.start()
        self._tuning = TuningThread(
            self._records,
            self._artifacts,
            self._device,
            self._bases,
            self._id,
            self._settings.checkpoint_seconds,
            self._residents,
        )
        self._tuning.start()
        Thread(target=self._watch, name="watch", daemon=True).start()

    def stop_tuning(self) -> None:
        """Ask the running job to be checkpointed and given back."""
        self._stopping.set()
        self._announcer.announce_now()
        if self._tuning is not None:
            self._tuning.stop()

    def stop(self) -> None:
        """End every thread, in order, within a bounded time."""
        self._ended.set()
        self.stop_tuning()
        if self._tuning is not None:
            self._tuning.join(_GIVE_BACK_SECONDS)
        if self._pinning is not None:
            self._pinning.stop()
        self._plans.stop()
        self._residency.stop()
        self._device.stop()
        self._announcer.stop()

    def _watch(self) -> None:
        """Look whether all threads live. A process that has lost one must end, so that a whole one takes its place."""
        while not self._stopping.is_set() and not self._ended.wait(_WATCH_SECONDS):
            self._failure = self._broken()
            if self._failure is not None:
                structlog.get_logger().critical("worker_broken", reason=self._failure)
                self._on_failure()
                return

    def _broken(self) -> str | None:
        """Why the process cannot go on; threads that end since they were asked to are no reason."""
        if self._device.unusable is not None:
            return self._device.unusable
        threads = {"tuning": self._tuning, "plans": self._plans, "device": self._device}
        gone = [name for name, thread in threads.items() if thread is None or not thread.alive]
        return f"a thread is gone: {', '.join(gone)}" if gone and not self._stopping.is_set() else None

    def wake(self) -> None:
        """A job was queued."""
        if self._tuning is not None:
            self._tuning.wake()

    def answer_plan(self, payload: str) -> None:
        """Reply to a `PlanRequest`."""
        self._answering.answer(PlanRequest, payload, self._planned)

    def answer_export(self, payload: str) -> None:
        """Reply to an `ExportRequest`."""
        self._answering.answer(ExportRequest, payload, self._exported)

    def answer_import(self, payload: str) -> None:
        """Reply to an `ImportRequest`."""
        self._answering.answer(ImportRequest, payload, self._imported)

    def answer_batch(self, payload: str) -> None:
        """Reply to a `ClassifyBatch`."""
        self._answering.answer(ClassifyBatch, payload, self._classify)

    def _planned(self, request: PlanRequest) -> PlanReply:
        return planned(self._bases[request.model], self._artifacts, request)

    def _exported(self, request: ExportRequest) -> ExportReply:
        return exported(self._bases[request.model], self._artifacts, self._records, request)

    def _imported(self, request: ImportRequest) -> ImportReply:
        return imported(self._bases[request.model], self._device, self._artifacts, self._records, request)

    def _classify(self, batch: ClassifyBatch) -> ClassifyReply | None:
        began, watch = time.monotonic(), Stopwatch()
        deadline = began + self._bus.clock.seconds_until(batch.expires_at)
        residents = self._residents[batch.model]
        try:
            base, together = self._bases[batch.model], self._together[batch.model]
            parts = classify(base, residents, together, batch, deadline, watch)
        except Expired:
            return None
        for part in batch.parts if watch.seconds else ():
            record("device", part.traceparent, watch.began, watch.ended, inputs=len(part.inputs), batch=batch.id)
        return ClassifyReply(
            id=batch.id,
            worker=self._id,
            parts=parts,
            worker_seconds=time.monotonic() - began,
            device_seconds=watch.seconds,
        )

    def _prepare(self, base: LanguageModel, content: bytes) -> Resident:
        return self._device.run_query(partial(prepare, base, content), small=True)

    def _prepare_plain(self, base: LanguageModel, plain: PlainContext) -> Resident:
        return self._device.run_query(partial(prepare_plain, base, plain), small=True)

    def _enter(self, model_id: str, stage: str) -> None:
        self._stages[model_id] = stage
        structlog.get_logger().info("stage", model=model_id, stage=stage)
        self._announcer.announce_now()

    def _announcements(self) -> list[Announcement]:
        return [self._announcement(model_id) for model_id in self._models]

    def _announcement(self, model_id: str) -> Announcement:
        base, residents = self._bases.get(model_id), self._residents.get(model_id)
        if base is None:
            return Announcement(
                worker_id=self._id,
                host=socket.gethostname(),
                release=VERSION,
                model=model_id,
                ready=False,
                stage=self._stages[model_id],
                unsupported=self._unsupported.get(model_id),
            )
        return Announcement(
            worker_id=self._id,
            host=socket.gethostname(),
            release=VERSION,
            model=model_id,
            ready=self._tuning is not None and not self._stopping.is_set() and self._broken() is None,
            stage=self._broken() if self._tuning is not None else None,
            parameters=base.parameters,
            context_length=base.context_length,
            resident_contexts=len(residents) if residents is not None else 0,
            device=state(base.device) if self._device.unusable is None else None,  # which could not be asked
            busy_seconds=self._device.busy_seconds,
            files=base.files,
            prefixes=residents.figures if residents is not None else None,
        )
