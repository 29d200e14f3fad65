"""``python -m pytest_k8snet``: the command ``k8snet`` where no script of that name is on the PATH."""

from __future__ import annotations

from pytest_k8snet.cli import main

if __name__ == "__main__":
    main(prog_name="k8snet")
