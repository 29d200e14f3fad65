"""The container images of the lab, written with tarfile: no builder, no registry.

Their contents are the lab's own binaries and files of Debian packages that the node root has installed. Python's compiled files come
along: without them the probe's first answer takes seconds longer on a node.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_k8snet.access.image import DEFAULT_IMAGE
from pytest_k8snet.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PAUSE = "k8snet.local/pause:1"
COREDNS = "k8snet.local/coredns:1"
KUBE_PROXY = "k8snet.local/kube-proxy:1"
FLANNEL = "k8snet.local/flannel:1"
CILIUM = "k8snet.local/cilium:1"
CILIUM_OPERATOR = "k8snet.local/cilium-operator:1"
PROBE = "k8snet.local/probe:1"
INGRESS = "k8snet.local/ingress:1"
KUBE_ROUTER = "k8snet.local/kube-router:1"

TOOL_PACKAGES = (
    "base-files",
    "conntrack",
    "coreutils",
    "dash",
    "ethtool",
    "grep",
    "iperf3",
    "iproute2",
    "ipset",
    "iptables",
    "iputils-ping",
    "ipvsadm",
    "kmod",
    "nftables",
    "procps",
    "python3",
    "tcpdump",
)
"""What the layer shared by the probe, kube-proxy and the ingress holds, with all that these depend on."""

_PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

_NOT_NEEDED = frozenset(
    {
        "adduser",
        "debconf",
        "dpkg",
        "init-system-helpers",
        "install-info",
        "login",
        "passwd",
        "perl-base",
        "tar",
        "tzdata",
    }
)
"""Depended on for installing only: nothing is installed in an image."""

_EXTRA_PATHS = (
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "etc/passwd",
    "etc/group",
    "etc/ld.so.cache",
    "etc/nsswitch.conf",
    "etc/protocols",
)
_LEGACY_ALTERNATIVE = re.compile(r"/usr/sbin/(ip6?tables)-nft(.*)")
_DOCKER_MEDIA_TIME = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Layer:
    """Files of a layer: a function writes them into its tar."""

    name: str
    write: Callable[[tarfile.TarFile], None]


@dataclass(frozen=True, slots=True)
class Image:
    """One image: references, layers from the bottom, and how it is started."""

    references: tuple[str, ...]
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def references() -> dict[str, str]:
    """Give role to image reference."""
    return {
        "pause": PAUSE,
        "coredns": COREDNS,
        "kube-proxy": KUBE_PROXY,
        "probe": PROBE,
        "flannel": FLANNEL,
        "cilium": CILIUM,
        "cilium-operator": CILIUM_OPERATOR,
        "ingress": INGRESS,
        "kube-router": KUBE_ROUTER,
    }


@dataclass(frozen=True, slots=True)
class CiliumFiles:
    """What Cilium's images are made of."""

    programs: Path
    """Folder of agent, operator and the BPF sources."""
    compiler: Path
    """Root with clang and bpftool."""


def lab_images(
    node_root: Path,
    *,
    kube_proxy: Path,
    coredns: Path,
    pause: Path,
    flanneld: Path | None = None,
    kube_router: Path | None = None,
    cilium: CiliumFiles | None = None,
) -> tuple[Image, ...]:
    """Give the images of the lab, and those of flannel, kube-router and Cilium when there are such programs.

    The probe has the reference a run uses by default as well, so that it needs no option on a lab.
    """
    tools = Layer("tools", lambda tar: _add_packages(tar, node_root, TOOL_PACKAGES))
    nginx = Layer("nginx", lambda tar: _add_packages(tar, node_root, ("nginx",), below=TOOL_PACKAGES))
    made: tuple[Image, ...] = (
        Image((PAUSE,), (Layer("pause", lambda tar: _add_program(tar, pause, "pause")),), ("/pause",)),
        Image((COREDNS,), (Layer("coredns", lambda tar: _add_program(tar, coredns, "coredns")),), ("/coredns",)),
        Image((PROBE, DEFAULT_IMAGE), (tools,), ("/bin/sh",), _PATH),
        Image((INGRESS,), (tools, nginx), ("/usr/sbin/nginx",), _PATH),
        Image(
            (KUBE_PROXY,),
            (tools, Layer("kube-proxy", lambda tar: _add_program(tar, kube_proxy, "usr/local/bin/kube-proxy"))),
            ("/usr/local/bin/kube-proxy",),
            _PATH,
        ),
    )
    if flanneld is not None:
        made += (_with_program(tools, FLANNEL, "flannel", flanneld, "opt/bin/flanneld"),)
    if kube_router is not None:
        made += (_with_program(tools, KUBE_ROUTER, "kube-router", kube_router, "usr/local/bin/kube-router"),)
    return made if cilium is None else made + _cilium_images(tools, cilium)


def _with_program(tools: Layer, reference: str, title: str, program: Path, place: str) -> Image:
    """Give an image of the tools and one program beside."""
    layer = Layer(title, lambda tar: _add_program(tar, program, place))
    return Image((reference,), (tools, layer), (f"/{place}",), _PATH)


def _cilium_images(tools: Layer, files: CiliumFiles) -> tuple[Image, ...]:
    compiler = Layer("bpf-compiler", lambda tar: _add_folder(tar, files.compiler, ""))
    agent = Layer("cilium", lambda tar: _add_program(tar, files.programs / "cilium-agent", "usr/bin/cilium-agent"))
    sources = Layer("cilium-bpf", lambda tar: _add_folder(tar, files.programs / "bpf", "var/lib/cilium/bpf"))
    operator = Layer(
        "cilium-operator", lambda tar: _add_program(tar, files.programs / "cilium-operator-generic", "usr/bin/cilium-operator-generic")
    )
    return (
        Image((CILIUM,), (tools, compiler, agent, sources), ("/usr/bin/cilium-agent",), _PATH),
        Image((CILIUM_OPERATOR,), (operator,), ("/usr/bin/cilium-operator-generic",), _PATH),
    )


def write_archive(place: Path, images: Iterable[Image]) -> None:
    """Write all images into one archive in the format of `docker save`; a layer that several images have is in it once."""
    digests: dict[str, str] = {}
    manifest: list[dict[str, Any]] = []
    with tarfile.open(place, "w") as archive:
        for image in images:
            for layer in image.layers:
                if layer.name not in digests:
                    digests[layer.name] = _add_layer(archive, layer, place.with_suffix(".layer"))
            diffs = [digests[layer.name] for layer in image.layers]
            config = json.dumps(_config(image, diffs)).encode()
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add_bytes(archive, config_name, config)
            manifest.append({"Config": config_name, "RepoTags": list(image.references), "Layers": [f"{diff}/layer.tar" for diff in diffs]})
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())


def _config(image: Image, diffs: Sequence[str]) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": _DOCKER_MEDIA_TIME,
        "config": {"Env": [f"{name}={value}" for name, value in image.environment.items()], "Entrypoint": list(image.entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}" for diff in diffs]},
        "history": [{"created": _DOCKER_MEDIA_TIME, "created_by": layer.name} for layer in image.layers],
    }


def _add_layer(archive: tarfile.TarFile, layer: Layer, scratch: Path) -> str:
    """Add the layer's tar to the archive and give its sha256."""
    with tarfile.open(scratch, "w") as tar:
        layer.write(tar)
    try:
        with scratch.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        archive.add(scratch, f"{digest}/layer.tar")
    finally:
        scratch.unlink()
    return digest


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _add_program(tar: tarfile.TarFile, program: Path, name: str) -> None:
    """Add one executable, and the folders it is in."""
    for parent in reversed(Path(name).parents[:-1]):
        folder = tarfile.TarInfo(str(parent))
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
    with program.open("rb") as content:
        info = tarfile.TarInfo(name)
        info.size, info.mode = os.fstat(content.fileno()).st_size, 0o755
        tar.addfile(info, content)


def _add_folder(tar: tarfile.TarFile, folder: Path, name: str) -> None:
    """Add everything below a folder, and the folders that its new name is in."""
    tar.dereference = False
    for parent in reversed((Path(name) / "x").parents[:-1]):
        info = tarfile.TarInfo(str(parent))
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    for path in sorted(folder.rglob("*")):
        _add(tar, path, str(Path(name) / path.relative_to(folder)))


def _add_packages(tar: tarfile.TarFile, root: Path, packages: Sequence[str], *, below: Sequence[str] = ()) -> None:
    """Add the files of these Debian packages and of all that they depend on, as they are installed below a root.

    What the packages `below` bring is in a layer under this one.
    """
    tar.dereference = False
    status = (root / "var/lib/dpkg/status").read_text()
    known = set(installed_closure(status, below))
    paths = set() if below else set(_EXTRA_PATHS)
    for package in installed_closure(status, packages):
        if package not in known:
            paths.update(_package_paths(root, package))
    paths.update(_alternatives(root, paths))
    paths.update({f"{folder}/__pycache__" for folder in _python_folders(paths)})
    with_parents = {str(parent) for path in paths for parent in (Path(path), *Path(path).parents)} - {"."}
    for path in sorted(with_parents):
        source = root / path
        if path.endswith("/__pycache__") and source.is_dir():
            _add(tar, source, path)
            for compiled in sorted(source.iterdir()):
                _add(tar, compiled, f"{path}/{compiled.name}")
        elif source.is_symlink() or source.exists():
            _add(tar, source, path)


def _add(tar: tarfile.TarFile, source: Path, name: str) -> None:
    info = tar.gettarinfo(source, name)
    # Files of the cache belong to whoever prepared it; in an image all is root's. Times are whole seconds, as in the compiled Python files.
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = int(info.mtime)
    info.mode = stat.S_IMODE(info.mode)
    if info.islnk():
        info.type, info.linkname = tarfile.REGTYPE, ""
        info.size = source.stat().st_size
    if info.issym() and (nft := _LEGACY_ALTERNATIVE.fullmatch(info.linkname)):
        # A node's kernel may lack what iptables-nft needs; both back ends stay there under their own names.
        info.linkname = f"/usr/sbin/{nft[1]}-legacy{nft[2]}"
    if info.isreg():
        with source.open("rb") as content:
            tar.addfile(info, content)
    else:
        tar.addfile(info)


def _package_paths(root: Path, package: str) -> Iterator[str]:
    lists = [path for name in (f"{package}.list", f"{package}:amd64.list") if (path := root / "var/lib/dpkg/info" / name).is_file()]
    for file in lists:
        for line in file.read_text().splitlines():
            path = Path(line.lstrip("/"))
            if path.name and path.parts[0] != ".":
                yield _installed_at(root, path)


def _installed_at(root: Path, path: Path) -> str:
    """Give where a packaged path really is: with a merged /usr, /bin/ip is usr/bin/ip."""
    first = path.parts[0]
    if len(path.parts) > 1 and (root / first).is_symlink():
        return str(Path(os.readlink(root / first).lstrip("/"), *path.parts[1:]))  # noqa: PTH115 - str wanted
    return str(path)


def _alternatives(root: Path, paths: Iterable[str]) -> Iterator[str]:
    """Give the links of /etc/alternatives that end in the image, and the links in the system folders that lead to them."""
    known = set(paths)
    chosen = set()
    for link in (root / "etc/alternatives").iterdir():
        if link.is_symlink() and _installed_at(root, Path(str(link.readlink()).lstrip("/"))) in known:
            chosen.add(f"/etc/alternatives/{link.name}")
            yield f"etc/alternatives/{link.name}"
    for folder in ("usr/bin", "usr/sbin"):
        for link in (root / folder).iterdir():
            if link.is_symlink() and str(link.readlink()) in chosen:
                yield f"{folder}/{link.name}"


def _python_folders(paths: Iterable[str]) -> set[str]:
    return {str(Path(path).parent) for path in paths if path.endswith(".py")}


def installed_closure(status: str, packages: Iterable[str]) -> list[str]:
    """Give these packages and all installed ones they depend on, by the text of dpkg's status file."""
    known, providers = _read_status(status)
    found: set[str] = set()
    queue = list(packages)
    while queue:
        package = queue.pop()
        if package in found or package in _NOT_NEEDED:
            continue
        if package not in known:
            message = f"package {package} is not installed in the node root; it is asked for by an image"
            raise LabError(message)
        found.add(package)
        for group in known[package]:
            choice = next((name for name in group if name in known), None)
            if choice is None:
                choice = next((providers[name] for name in group if name in providers), None)
            if choice is not None:
                queue.append(choice)
    return sorted(found)


def _read_status(status: str) -> tuple[dict[str, list[list[str]]], dict[str, str]]:
    """Give the dependencies of each package (groups of which one is enough) and who provides each virtual package."""
    known: dict[str, list[list[str]]] = {}
    providers: dict[str, str] = {}
    for block in status.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line[0].isspace())
        name = fields["Package"]
        wanted = ", ".join(fields[key] for key in ("Depends", "Pre-Depends") if key in fields)
        known[name] = [[_package_name(choice) for choice in group.split("|")] for group in wanted.split(",") if group.strip()]
        for virtual in fields.get("Provides", "").split(","):
            if virtual.strip():
                providers.setdefault(_package_name(virtual), name)
    return known, providers


def _package_name(text: str) -> str:
    return re.split(r"[ (:]", text.strip(), maxsplit=1)[0]
