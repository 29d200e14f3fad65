"""How a process of a session gets its run: the controller makes it, xdist's workers join it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.backend import Backend, open_backend
from pytest_k8snet.record.recording import Recorded
from pytest_k8snet.record.store import RunFolder
from pytest_k8snet.run import ControllerRun, Run

if TYPE_CHECKING:
    import pytest

    from pytest_k8snet.expect.profile import Profile
    from pytest_k8snet.options import Settings
    from pytest_k8snet.record.redact import Redactor


def open_run(config: pytest.Config, settings: Settings, redactor: Redactor) -> ControllerRun:
    """Return the run that the settings ask for.

    Raises a `K8sNetError` when a profile, a recording, the name of a check or the place for a bundle cannot be used. Nothing is contacted.
    """
    base = config.invocation_params.dir
    plan_only = settings.dry_run or config.getoption("collectonly", False)
    run: ControllerRun
    if settings.replay is not None:
        from pytest_k8snet.replay import open_replay

        run = open_replay(settings, redactor=redactor, base=base, plan_only=plan_only)
    else:
        opening = partial(open_backend, config, settings, redactor.learn)
        profile = given_profile(settings)
        run = ControllerRun(settings, opening, profile, redactor=redactor, base=base, plan_only=plan_only)
    if run.settings.checks:
        from pytest_k8snet.asked import see_that_packaged_are_there

        see_that_packaged_are_there(run.settings)
    if run.bundle is not None:
        from pytest_k8snet.record.bundle import check_target

        check_target(run.bundle)
    return run


def remove_earlier_bundle(config: pytest.Config, settings: Settings) -> None:
    """Remove the bundle of an earlier run: one that ends before it has begun writes none, and a pipeline would take that for its own."""
    if settings.save_bundle is None or settings.dry_run or config.getoption("collectonly", False):
        return
    base = config.invocation_params.dir
    path = base / settings.save_bundle
    if settings.replay is not None and path.resolve().is_relative_to((base / settings.replay).resolve()):
        return  # it is refused
    with suppress(OSError):  # told by `check_target`
        if path.is_file():
            path.unlink()


def join_run(config: pytest.Config, settings: Settings, redactor: Redactor, told: dict[str, Any]) -> Run:
    """Return the run that the controller has told a worker of.

    Raises a `K8sNetError` when a profile cannot be used, or the run folder cannot be read.
    """
    folder = told["folder"] and RunFolder(Path(told["folder"]), redactor)
    recorded = told["recorded"] and Recorded.from_json(told["recorded"])
    opening: Callable[[], Backend] = partial(open_backend, config, settings, redactor.learn)
    if recorded is None:
        profile = given_profile(settings)
    else:
        from pytest_k8snet.access.replay import ReplayBackend
        from pytest_k8snet.replay import replayed_profile

        read_json: Callable[[str], Any] = folder.read_json if folder is not None else lambda _name: None
        settings = settings.with_recorded(recorded.settings)
        opening = partial(ReplayBackend, recorded, read_json, str(settings.replay))
        profile = None if folder is None else replayed_profile(recorded, settings, read_json)
    return Run(
        settings,
        opening,
        profile,
        redactor=redactor,
        run_id=told["id"],
        judged_on=date.fromisoformat(told["judged_on"]),
        folder=folder,
        failure=told["failure"],
        recorded=recorded,
    )


def given_profile(settings: Settings) -> Profile | None:
    """Return the profile that the settings name.

    Raises `ConfigurationError` when it cannot be used.
    """
    if not settings.profile:
        return None
    from pytest_k8snet.expect.profile import load_profiles

    return load_profiles(settings.profile)
