"""``k8snet plot``: what a run measured, as a picture."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import click

from pytest_k8snet.commands.cluster import told
from pytest_k8snet.commands.writing import writing


@click.command("plot")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The picture (.svg)")
def command(run: Path, out: Path) -> None:
    """Draw what --k8snet-service-scale measured: milliseconds to connect by the number of Services. RUN is a run folder or a bundle."""
    from pytest_k8snet.errors import RecordError
    from pytest_k8snet.record.document import Document
    from pytest_k8snet.record.recording import open_recording
    from pytest_k8snet.record.scale import ScaleRecord
    from pytest_k8snet.record.store import RunFolder
    from pytest_k8snet.report.scale_plot import scale_plot

    with told(), closing(open_recording(run)) as recording, tempfile.TemporaryDirectory(prefix="k8snet-") as place:
        folder = RunFolder.create(Path(place) / "run")
        recording.copy_into(folder)
        names = [name for name in folder.files() if name.startswith("scale/")]
        documents = [Document.from_json(folder.read_json(name), where=name) for name in names]
        picture = scale_plot([ScaleRecord.from_document(document) for document in documents if document.values is not None])
        if picture is None:
            raise RecordError(f"{run}: no two numbers of Services were measured; run with --k8snet-service-scale=10,1000")
        with writing(out):
            out.write_text(picture, encoding="utf-8")
    click.echo(f"{out}: milliseconds to connect by the number of Services")
