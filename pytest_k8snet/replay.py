"""A run that judges what another one measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.replay import ReplayBackend
from pytest_k8snet.errors import ConfigurationError, RecordError
from pytest_k8snet.options import COMMAND_LINE, Settings
from pytest_k8snet.plan import Plan, is_selector, replay_plan
from pytest_k8snet.record.recording import Recorded, Recording, open_recording
from pytest_k8snet.record.store import PLAN, PROFILES, RunFolder
from pytest_k8snet.run import ControllerRun

if TYPE_CHECKING:
    from pytest_k8snet.backend import Backend
    from pytest_k8snet.cluster.model import Cluster
    from pytest_k8snet.expect.profile import Profile
    from pytest_k8snet.record.redact import Redactor


class ReplayRun(ControllerRun):
    """The controller's run of a replay: like any other, but its folder begins with the documents of the recording."""

    def __init__(
        self,
        settings: Settings,
        open_backend: Callable[[], Backend],
        profile: Profile | None,
        *,
        redactor: Redactor,
        base: Path,
        plan_only: bool,
        recording: Recording,
    ) -> None:
        super().__init__(settings, open_backend, profile, redactor=redactor, base=base, plan_only=plan_only, recorded=recording.run)
        self._recording = recording

    def close(self) -> None:
        """End everything, and let go of the recording."""
        super().close()
        self._recording.close()

    def _read_inventory(self) -> None:
        try:
            self._cluster = self.backend.read_cluster()
            self._plan = self._read_plan(self._cluster)
            if self.plan_only:
                return
            folder = self._make_folder()
            try:
                self._recording.copy_into(folder)
            except RecordError:
                shutil.rmtree(folder.path, ignore_errors=True)
                raise
        except RecordError as error:
            raise _unusable(self._recording.path, error) from error
        self._folder = folder
        self._write_head()

    def _read_plan(self, cluster: Cluster) -> Plan:
        settings = self.settings
        data = self._recording.read_json(PLAN)
        if data is None:
            raise RecordError(f"the recording of run {self._recording.run.id} has no plan")
        try:
            recorded = Plan.from_json(data)
            for name in recorded.nodes:
                cluster.node(name)
        except (KeyError, TypeError) as error:
            raise RecordError(f"{PLAN}: damaged: {error!r}") from error
        if settings.nodes is not None and settings.sources["nodes"] == COMMAND_LINE and is_selector(settings.nodes):
            self.backend.select_nodes(settings.nodes)
        return replay_plan(recorded, settings, cluster)

    def _make_folder(self) -> RunFolder:
        if self.settings.run_dir is not None:
            path = self._base / self.settings.run_dir
            if _lies_in(path, self._recording.path) or _lies_in(self._recording.path, path):
                raise ConfigurationError(
                    f"run folder {path}: the recording that is judged lies there; name another one with --k8snet-run-dir"
                )
        return super()._make_folder()


def open_replay(settings: Settings, *, redactor: Redactor, base: Path, plan_only: bool) -> ReplayRun:
    """Return the run that judges what ``--k8snet-replay`` names; `base` is the folder that relative paths start from.

    Raises `ConfigurationError` when that cannot be used.
    """
    assert settings.replay is not None
    path = base / settings.replay
    try:
        recording = open_recording(path)
        settings = settings.with_recorded(recording.run.settings)
        profile = replayed_profile(recording.run, settings, recording.read_json)
    except RecordError as error:
        raise _unusable(path, error) from error
    if settings.save_bundle is not None and _lies_in(base / settings.save_bundle, path):
        raise ConfigurationError(
            f"--k8snet-save-bundle: {base / settings.save_bundle}: is of the recording that is judged; name another file"
        )
    backend = partial(ReplayBackend, recording.run, recording.read_json, str(path))
    return ReplayRun(settings, backend, profile, redactor=redactor, base=base, plan_only=plan_only, recording=recording)


def replayed_profile(run: Recorded, settings: Settings, read_json: Callable[[str], Any]) -> Profile | None:
    """Return the profile of a replay: the command line's, else the one that the recorded run was judged with.

    Raises `RecordError` when the latter is not in the recording, or cannot be used.
    """
    from pytest_k8snet.expect.profile import load_profiles, profile_from_json

    if settings.sources["profile"] == COMMAND_LINE:
        return load_profiles(settings.profile) if settings.profile else None
    data = read_json(PROFILES)
    if data is not None:
        return profile_from_json(data, where=PROFILES)
    if settings.profile:
        raise RecordError(
            f"the recording of run {run.id}, made by pytest-k8snet {run.version}, does not hold its profiles "
            f"({', '.join(settings.profile)}); name them with --k8snet-profile"
        )
    return None


def _lies_in(path: Path, other: Path) -> bool:
    return path.resolve().is_relative_to(other.resolve())


def _unusable(path: Path, error: RecordError) -> ConfigurationError:
    text = str(error)
    return ConfigurationError(f"--k8snet-replay: {text if str(path) in text else f'{path}: {text}'}")
