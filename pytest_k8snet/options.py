"""All settings: one table, resolved once, each with the source it came from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.access.image import DEFAULT_IMAGE, is_image
from pytest_k8snet.errors import ConfigurationError, RecordError

if TYPE_CHECKING:
    import pytest

Kind = Literal[
    "text", "image", "namespace", "path", "list", "flag", "number", "seconds", "choice", "pairs", "share", "shard", "counts", "rate"
]

LEVELS = ("read", "probe", "load")
IN_CLUSTER = "in-cluster"

#: The words in brackets behind a value in the header.
COMMAND_LINE = "command line"
RECORDING = "recording"
DEFAULT = "default"

#: What decides verdicts: a replay takes these from its recording, unless the command line gives others.
DECIDING = ("profile", "nodes", "checks", "level", "pairs", "load_pairs", "shard", "allow_missing", "strict", "allow_inconclusive")

REPLAY = "replay"  # the access of a replay; nobody has to name it
WAYS = ("pod", "ssh", "local", "fake")

#: What means nothing where there are no probe pods, and what means nothing where nothing is measured.
OF_PODS = ("image", "image_pull_secret", "namespace", "service_scale", "idle", "conntrack_burst", "conntrack_burst_anyway")
OF_MEASURING = ("udp", "streams", "take_seconds", "bitrate", "max_parallel", "lock_wait", "no_lock")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. Option, environment variable and ini key follow from the name."""

    name: str  # as in --k8snet-NAME
    kind: Kind
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    least: int = 1  # of a number
    most: int | None = None

    @property
    def option(self) -> str:
        """The command line option."""
        return f"--k8snet-{self.name}"

    @property
    def field(self) -> str:
        """The field of `Settings`."""
        return self.name.replace("-", "_")

    @property
    def ini(self) -> str:
        """The ini key, which is also the option's destination."""
        return f"k8snet_{self.field}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return self.ini.upper()

    @property
    def ways(self) -> tuple[str, ...]:
        """The values of ``--k8snet-access`` that it means something with."""
        if self.name.startswith("ssh-"):
            return ("ssh",)
        if self.field in OF_PODS:
            return ("pod", "fake")
        return WAYS if self.field in OF_MEASURING else (*WAYS, REPLAY)


FEW_NODES = 16  # of which every pair is looked at by default: 240 pairs


@dataclass(frozen=True, slots=True)
class PairChoice:
    """Which ordered pairs of nodes: ``all``, ``ring``, ``sample:N``, or ``auto``: all of up to `FEW_NODES`, the ring of more."""

    kind: Literal["auto", "all", "ring", "sample"]
    count: int = 0

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"sample:{self.count}" if self.kind == "sample" else self.kind


@dataclass(frozen=True, slots=True)
class Missing:
    """How many nodes may be missing: a number or a share of all."""

    number: int
    percent: bool = False

    def of(self, nodes: int) -> int:
        """Return how many of `nodes` may be missing."""
        return nodes * self.number // 100 if self.percent else self.number

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.number}{'%' if self.percent else ''}"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several runs that share a cluster's nodes; `index` counts from 0."""

    index: int
    count: int

    def of(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """Return this shard's part of `nodes`: every node is in exactly one."""
        return tuple(nodes[self.index :: self.count])

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.index}/{self.count}"


MOST_BPS = 10**10


@dataclass(frozen=True, slots=True)
class BitRate:
    """A rate as it is written, ``10mbit`` or ``10M``, and in bit/s."""

    text: str
    bps: int

    def __str__(self) -> str:
        """Return it as it is written."""
        return self.text


MOST_PORT = 65_535
MOST_FRONTENDS = 10_000  # of Services that a run may make
MOST_IDLE_S = 2400  # the probe pods live for an hour
MOST_STREAMS = 16
MOST_TAKE_S = 60
MOST_BURST = 50_000  # connections, toward one address and port: there are no more ports

SETTINGS: tuple[Setting, ...] = (
    Setting("kubeconfig", "path", None, "kubeconfig of the cluster to test (in-cluster: the pod's service account)", metavar="FILE"),
    Setting("context", "text", None, "context of the kubeconfig", metavar="NAME"),
    Setting("profile", "list", (), "what the network is meant to be: name or file; repeatable, later ones win", metavar="PROFILE"),
    Setting("access", "choice", "pod", "way to the nodes", choices=WAYS),
    Setting(
        "ssh-user",
        "text",
        None,
        "user to log in to nodes as; not root: sudo is used (default: that of the ssh configuration)",
        metavar="USER",
    ),
    Setting("ssh-port", "number", None, "port of the nodes' sshd (default: that of the ssh configuration)", metavar="PORT", most=MOST_PORT),
    Setting("ssh-key", "path", None, "private key; its passphrase, if any, is taken from K8SNET_SSH_PASSPHRASE", metavar="FILE"),
    Setting("ssh-known-hosts", "path", None, "host keys to accept, instead of those of the ssh configuration", metavar="FILE"),
    Setting("ssh-config", "path", None, "ssh configuration, or none (default: ~/.ssh/config and /etc/ssh/ssh_config)", metavar="FILE"),
    Setting("ssh-jump", "text", None, "jump hosts: [USER@]HOST[:PORT],... or none", metavar="HOSTS"),
    Setting("ssh-address", "choice", "internal", "which of a node's addresses to go to", choices=("internal", "external", "hostname")),
    Setting("ssh-map", "text", None, "hosts of nodes: node=host[:port],... or a file of such lines", metavar="MAP"),
    Setting("ssh-connect-timeout", "number", None, "seconds until a node that lets nobody in is given up (default: 10)", metavar="S"),
    Setting("image", "image", DEFAULT_IMAGE, "image of the probe pods", metavar="REFERENCE"),
    Setting("image-pull-secret", "text", None, "pull secret for that image, in the namespace", metavar="NAME"),
    Setting("namespace", "namespace", None, "namespace for the probe pods; it has to exist and is never deleted", metavar="NAME"),
    Setting(
        "nodes",
        "text",
        None,
        "nodes to test: names separated by commas (* and ? stand for any letters), or a label selector",
        metavar="NODES",
    ),
    Setting("checks", "list", (), "checks to run: ids, wildcards allowed (NET-MTU-*); repeatable, or separated by commas", metavar="IDS"),
    Setting("level", "choice", "load", "what the run may do: read, send small probes, send full-rate load", choices=LEVELS),
    Setting(
        "pairs",
        "pairs",
        PairChoice("auto"),
        f"pairs of nodes for checks that send little (all, ring, sample:N, auto: all of up to {FEW_NODES} nodes, the ring of more)",
        metavar="PAIRS",
    ),
    Setting("load-pairs", "pairs", PairChoice("sample", 4), "pairs of nodes for full-rate load (all, ring, sample:N)", metavar="PAIRS"),
    Setting(
        "service-scale",
        "counts",
        (),
        "make so many frontends of Services in the run's namespace, and see what they cost (10,1000); none without it",
        metavar="N,...",
    ),
    Setting(
        "idle",
        "seconds",
        0,
        "seconds for which connections through a Service are left idle, to see whether they live on (960: IPVS forgets after 900); "
        "none without it",
        metavar="SECONDS",
        most=MOST_IDLE_S,
    ),
    Setting(
        "conntrack-burst",
        "number",
        0,
        "short connections that every node's pod opens to a pod of another node, to see what the connection table makes of them (2000); "
        "none without it",
        metavar="N",
        least=0,
        most=MOST_BURST,
    ),
    Setting("conntrack-burst-anyway", "flag", False, "send that burst also where it takes more than half of the free entries of a table"),
    Setting(
        "udp", "rate", None, "rate of UDP between the pairs under load, to see what of it is lost (10mbit); none without it", metavar="RATE"
    ),
    Setting(
        "streams",
        "number",
        0,
        "TCP streams of a throughput take (0: one, or 4 or 8 where the host path of the first pair carries more by them)",
        metavar="N",
        least=0,
        most=MOST_STREAMS,
    ),
    Setting("take-seconds", "number", 3, "seconds of a throughput take, after one that is left out", metavar="S", most=MOST_TAKE_S),
    Setting("bitrate", "rate", None, "cap of what a throughput take sends (500mbit); as fast as it goes without it", metavar="RATE"),
    Setting("max-parallel", "number", 4, "pairs under load at the same time, none of them with a node of another", metavar="N"),
    Setting("shard", "shard", None, "measure one of N parts of the nodes, 0/N to N-1/N; k8snet shards merge joins them", metavar="I/N"),
    Setting("lock-wait", "seconds", 300, "seconds to wait until another run has measured its load (0: not at all)", metavar="SECONDS"),
    Setting("no-lock", "flag", False, "measure load also while another run does"),
    Setting("allow-missing", "share", Missing(0), "nodes that may be NotReady, gone or without probe (N or N%%)", metavar="N"),
    Setting("run-dir", "path", None, "folder for this run's record (default: .k8snet/<UTC time>-<run id>)", metavar="FOLDER"),
    Setting("keep-runs", "number", 10, "runs kept in .k8snet", metavar="N"),
    Setting("replay", "path", None, "judge a recorded run again, without its cluster: a run folder or a bundle", metavar="PATH"),
    Setting("save-bundle", "path", None, "write the run's record to this file at the end (tar, zstd)", metavar="FILE"),
    Setting("dry-run", "flag", False, "print what would be checked, and read nothing but the API"),
    Setting("strict", "flag", False, "fail on every skip but 'does not apply here'"),
    Setting("allow-inconclusive", "flag", False, "inconclusive results do not fail the run"),
    Setting("no-suite", "flag", False, "do not add the packaged suite"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a run. `sources` names where each value comes from."""

    kubeconfig: str | None = None
    context: str | None = None
    profile: tuple[str, ...] = ()
    access: str = "pod"
    ssh_user: str | None = None
    ssh_port: int | None = None
    ssh_key: str | None = None
    ssh_known_hosts: str | None = None
    ssh_config: str | None = None
    ssh_jump: str | None = None
    ssh_address: str = "internal"
    ssh_map: str | None = None
    ssh_connect_timeout: int | None = None
    image: str = DEFAULT_IMAGE
    image_pull_secret: str | None = None
    namespace: str | None = None
    nodes: str | None = None
    checks: tuple[str, ...] = ()
    level: str = "load"
    pairs: PairChoice = PairChoice("auto")
    load_pairs: PairChoice = PairChoice("sample", 4)
    service_scale: tuple[int, ...] = ()
    idle: int = 0
    udp: BitRate | None = None
    conntrack_burst: int = 0
    conntrack_burst_anyway: bool = False
    streams: int = 0
    take_seconds: int = 3
    bitrate: BitRate | None = None
    max_parallel: int = 4
    shard: Shard | None = None
    lock_wait: int = 300
    no_lock: bool = False
    allow_missing: Missing = Missing(0)
    run_dir: str | None = None
    keep_runs: int = 10
    replay: str | None = None
    save_bundle: str | None = None
    dry_run: bool = False
    strict: bool = False
    allow_inconclusive: bool = False
    no_suite: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether there is a cluster to test."""
        return self.kubeconfig is not None or self.replay is not None or self.access == "fake"

    @property
    def asked_for(self) -> bool:
        """Whether the command line names the cluster: then, and only then, the suite runs and its absence matters."""
        return COMMAND_LINE in (
            self.sources.get("kubeconfig"),
            self.sources.get("replay"),
            self.sources.get("access") if self.access == "fake" else None,
        )

    @property
    def makes_pods(self) -> bool:
        """Whether the way to the nodes is made of probe pods."""
        return self.access in ("pod", "fake")

    def allows(self, level: str) -> bool:
        """Whether a check of `level` may run."""
        return LEVELS.index(level) <= LEVELS.index(self.level)

    def with_recorded(self, values: Mapping[str, str]) -> Settings:
        """Return the settings of a replay: what decides verdicts is as recorded where the command line says nothing.

        `values` are by name, as `to_json` wrote them. Raises `RecordError` for a value that this version does not know.
        """
        found: dict[str, Any] = {}
        sources = dict(self.sources)
        for setting in SETTINGS:
            if setting.field not in DECIDING or sources.get(setting.field) == COMMAND_LINE:
                continue
            text = values.get(setting.name, "")
            try:
                # No item of a list has a comma in it, but a path may have blanks.
                given: Any = text.split(", ") if setting.kind == "list" else text
                value = _READERS[setting.kind](setting, given) if text else setting.default
            except ValueError as error:
                raise RecordError(f"the recorded setting {setting.name}: got {text!r}, want {error}") from error
            found[setting.field], sources[setting.field] = value, DEFAULT if value == setting.default else RECORDING
        return replace(self, **found, sources=sources)

    def shown(self) -> list[tuple[str, str, str]]:
        """Return name, value and source of every setting that is not the default."""
        return [
            (setting.name, _text(getattr(self, setting.field)), self.sources[setting.field])
            for setting in SETTINGS
            if self.sources.get(setting.field, DEFAULT) != DEFAULT
        ]

    def to_json(self) -> dict[str, dict[str, str]]:
        """Return values and sources for the record. No setting holds a secret: the kubeconfig is named, never read into one."""
        return {
            setting.name: {
                "value": _text(getattr(self, setting.field)),
                "source": self.sources.get(setting.field, DEFAULT),
            }
            for setting in SETTINGS
        }


def is_namespace(name: str) -> bool:
    """Whether a namespace can be called so (RFC 1123, a label)."""
    return re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) is not None


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and ini keys."""
    group = parser.getgroup("k8snet", "Kubernetes network conformance")
    for setting in SETTINGS:
        details: dict[str, Any] = {"dest": setting.ini, "default": None, "help": _help(setting)}
        if setting.kind == "flag":
            group.addoption(setting.option, action="store_true", **details)
        elif setting.kind == "list":
            group.addoption(setting.option, action="append", metavar=setting.metavar, **details)
        else:
            metavar = setting.metavar or "{" + ",".join(setting.choices) + "}"
            group.addoption(setting.option, action="store", metavar=metavar, **details)
        ini_type: Any = {"flag": "bool", "list": "args", "number": "int", "seconds": "int"}.get(setting.kind, "string")
        parser.addini(setting.ini, setting.help.replace("%%", "%"), type=ini_type, default=None)


def resolve(config: pytest.Config, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings: command line over environment over ini over default.

    Raises `ConfigurationError` that names the setting as it was given, the value and what is accepted.
    """
    ini_name = config.inipath.name if config.inipath is not None else "ini"
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        given: Any = config.getoption(setting.ini, None)
        source, name = COMMAND_LINE, setting.option
        if given is None and setting.variable in environment:
            given, source, name = environment[setting.variable], f"environment {setting.variable}", setting.variable
            if given == "" and setting.kind != "flag":
                given = None  # an empty variable is how shells and CI systems say "not set"
        if given is None:
            given, source, name = config.getini(setting.ini), ini_name, f"{setting.ini} in {ini_name}"
        if given is None:
            values[setting.field], sources[setting.field] = setting.default, DEFAULT
            continue
        try:
            values[setting.field] = _READERS[setting.kind](setting, given)
        except ValueError as error:
            got = "" if setting.kind == "image" and "@" in str(given) else f"got {given!r}, "  # credentials may stand before that
            raise ConfigurationError(f"{name}: {got}want {error}") from error
        sources[setting.field] = source
    settings = Settings(**values, sources=sources)
    if settings.replay is not None:
        settings = _only_one(settings)
    _refuse_nothing(config, environment, settings)
    _refuse_what_is_in_vain(settings)
    if settings.active:
        _refuse_misspelt(environment)
        _refuse_misspelt_keys(config, ini_name)
    return settings


def _only_one(settings: Settings) -> Settings:
    """Let a replay or a cluster be what is judged: the one that a higher source names."""
    rank = {name: _rank(settings.sources[name]) for name in ("replay", "kubeconfig", "context", "access")}
    if rank["kubeconfig"] > rank["replay"] or (settings.access == "fake" and rank["access"] > rank["replay"]):
        return replace(settings, replay=None, sources={**settings.sources, "replay": DEFAULT})
    for name in ("kubeconfig", "context", "access"):
        if rank[name] >= rank["replay"]:
            raise ConfigurationError(f"--k8snet-replay and --k8snet-{name}: a replay reaches no cluster; give one of them")
    replaced = {"kubeconfig": None, "context": None, "access": REPLAY}
    sources = {**settings.sources, "kubeconfig": DEFAULT, "context": DEFAULT, "access": settings.sources["replay"]}
    return replace(settings, **replaced, sources=sources)  # type: ignore[arg-type]


def _refuse_nothing(config: pytest.Config, environment: Mapping[str, str], settings: Settings) -> None:
    """Raise `ConfigurationError` for a list of which the command line gives an empty part, as a variable does that is not set.

    Alone it takes back what a recording, the environment or an ini file gives, where there is such a thing.
    """
    for setting in SETTINGS:
        given = config.getoption(setting.ini, None) if setting.kind == "list" else None
        if not given or all(str(item).strip(", ") for item in given):
            continue
        below = settings.replay is not None or environment.get(setting.variable) or config.getini(setting.ini)
        if len(given) > 1 or not below:
            raise ConfigurationError(f"{setting.option}: got '', want {setting.metavar}; leave the option out where none is meant")


def _refuse_what_is_in_vain(settings: Settings) -> None:
    """Raise `ConfigurationError` for what the command line says in vain. Environment and ini may say it for other runs."""
    for setting in SETTINGS:
        if not settings.active or settings.sources[setting.field] != COMMAND_LINE or settings.access in setting.ways:
            continue
        if settings.access == REPLAY:
            raise ConfigurationError(f"{setting.option}: has no effect in a replay, where nothing is measured; leave it out")
        access = f"--k8snet-access={settings.access}"
        raise ConfigurationError(f"{setting.option}: has no effect with {access}; it is for --k8snet-access={setting.ways[0]}")
    said = {name for name, source in settings.sources.items() if settings.active and source == COMMAND_LINE}
    if "conntrack_burst_anyway" in said and not settings.conntrack_burst:
        raise ConfigurationError("--k8snet-conntrack-burst-anyway: has no effect without --k8snet-conntrack-burst=N")
    if "context" in said and settings.kubeconfig == IN_CLUSTER:
        raise ConfigurationError(
            f"--k8snet-context: has no effect with --k8snet-kubeconfig={IN_CLUSTER}, the cluster that the pod itself is in; leave it out"
        )
    if {"no_lock", "lock_wait"} <= said:
        raise ConfigurationError("--k8snet-lock-wait: has no effect with --k8snet-no-lock, which waits for no other run; give one of them")


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` for a variable that is nearly a setting's: its value would count for nothing, and nobody would know.

    Others may begin alike: the lab's, and those that Kubernetes gives containers beside a Service called k8snet.
    """
    names = [setting.variable for setting in SETTINGS]
    for name in sorted(name for name in environment if name.startswith("K8SNET_") and name not in names):
        if (close := _nearest(name, names)) is not None:
            raise ConfigurationError(f"environment variable {name}: there is no such setting; did you mean {close}?")


def _refuse_misspelt_keys(config: pytest.Config, ini_name: str) -> None:
    """Raise `ConfigurationError` likewise for a key of the ini file, of which pytest only warns. A user's plugin may have its own."""
    names = [setting.ini for setting in SETTINGS]
    given = getattr(config, "_inicfg", {})  # not public: which keys there are
    for key in sorted(key for key in given if key.lower().startswith("k8snet") and key not in names):
        close = _nearest(key.lower().replace("-", "_"), names)
        if close is not None and not _is_known(config, key):
            raise ConfigurationError(f"{key} in {ini_name}: there is no such setting; did you mean {close}?")


def _is_known(config: pytest.Config, key: str) -> bool:
    try:
        config.getini(key)
    except ValueError:
        return False
    return True


def _nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the one of `names` that another one is nearly. What all begin with does not count: it would make any short ones alike."""
    import difflib  # seldom needed

    begin = len("k8snet_")
    whole = {known[begin:]: known for known in names}
    return next((whole[part] for part in difflib.get_close_matches(name[begin:], whole, n=1, cutoff=0.8)), None)


def _rank(source: str) -> int:
    """Return how high a source stands; the default's has nothing to say."""
    if source == DEFAULT:
        return 0
    return 3 if source == COMMAND_LINE else 2 if source.startswith("environment ") else 1


def _help(setting: Setting) -> str:
    choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
    default = "" if setting.kind == "flag" or setting.default in (None, ()) else f" [default: {_text(setting.default)}]"
    return setting.help + choices + default


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return {True: "yes", False: "no", None: ""}.get(value, str(value)) if value is None or isinstance(value, bool) else str(value)


def _read_text(_setting: Setting, given: Any) -> str:
    text = str(given).strip()
    if not text:
        raise ValueError("a value that is not empty")
    return text


def _read_image(setting: Setting, given: Any) -> str:
    text = _read_text(setting, given)
    if not is_image(text):
        raise ValueError("the reference of an image, such as registry.example.com/netshoot:v0.15")
    return text


def _read_namespace(_setting: Setting, given: Any) -> str:
    text = str(given).strip()
    if not is_namespace(text):
        raise ValueError("the name of a namespace: lower-case letters, digits and '-'")
    return text


def _read_path(setting: Setting, given: Any) -> str:
    text = _read_text(setting, given)
    return text if text == IN_CLUSTER else str(Path(text).expanduser())


def _read_list(_setting: Setting, given: Any) -> tuple[str, ...]:
    parts: Sequence[str] = (
        re.split(r"[,\s]+", given) if isinstance(given, str) else [part for item in given for part in str(item).split(",")]
    )
    return tuple(part.strip() for part in parts if part.strip())


def _read_flag(_setting: Setting, given: Any) -> bool:
    if isinstance(given, bool):
        return given
    word = str(given).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("yes or no")


def _read_number(setting: Setting, given: Any) -> int:
    few = "" if setting.most is None else f" and at most {setting.most}"
    if (
        not re.fullmatch(r"\d{1,9}", str(given).strip())
        or int(given) < setting.least
        or (setting.most is not None and int(given) > setting.most)
    ):
        raise ValueError(f"a whole number of at least {setting.least}{few}")
    return int(given)


def _read_seconds(setting: Setting, given: Any) -> int:
    few = "" if setting.most is None else f", at most {setting.most}"
    if not re.fullmatch(r"\d{1,9}", str(given).strip()) or (setting.most is not None and int(given) > setting.most):
        raise ValueError(f"a whole number of seconds{few}")
    return int(given)


def _read_choice(setting: Setting, given: Any) -> str:
    if given not in setting.choices:
        raise ValueError("one of " + ", ".join(setting.choices))
    return str(given)


def _read_pairs(_setting: Setting, given: Any) -> PairChoice:
    text = str(given).strip()
    for kind in ("auto", "all", "ring"):
        if text == kind:
            return PairChoice(kind)
    match = re.fullmatch(r"sample:([1-9]\d*)", text)
    if match is None:
        raise ValueError("auto, all, ring or sample:N with N from 1")
    return PairChoice("sample", int(match[1]))


def _read_share(_setting: Setting, given: Any) -> Missing:
    match = re.fullmatch(r"(\d+)(%?)", str(given).strip())
    if match is None or (match[2] and int(match[1]) > 100):
        raise ValueError("a number of nodes or a share such as 10%")
    return Missing(int(match[1]), percent=bool(match[2]))


def _read_shard(_setting: Setting, given: Any) -> Shard:
    match = re.fullmatch(r"(\d+)/(\d+)", str(given).strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError("I/N with I from 0 to N-1, such as 0/3")
    return Shard(int(match[1]), int(match[2]))


def _read_counts(_setting: Setting, given: Any) -> tuple[int, ...]:
    parts = str(given).replace(" ", "").split(",")
    if not all(re.fullmatch(r"\d{1,5}", part) and 1 <= int(part) <= MOST_FRONTENDS for part in parts):
        raise ValueError(f"numbers from 1 to {MOST_FRONTENDS} separated by commas, such as 10,1000")
    return tuple(sorted({int(part) for part in parts}))


def _read_rate(_setting: Setting, given: Any) -> BitRate:
    match = re.fullmatch(r"(\d{1,5}(?:\.\d{1,3})?)([kmg])(?:bit)?", str(given).strip().lower())
    bps = 0 if match is None else round(float(match[1]) * {"k": 10**3, "m": 10**6, "g": 10**9}[match[2]])
    if not 10**5 <= bps <= MOST_BPS:
        raise ValueError("a rate from 100kbit to 10gbit, such as 10mbit")
    return BitRate(str(given).strip(), bps)


_READERS: Mapping[Kind, Callable[[Setting, Any], Any]] = {
    "text": _read_text,
    "image": _read_image,
    "namespace": _read_namespace,
    "path": _read_path,
    "list": _read_list,
    "flag": _read_flag,
    "number": _read_number,
    "seconds": _read_seconds,
    "choice": _read_choice,
    "pairs": _read_pairs,
    "share": _read_share,
    "shard": _read_shard,
    "counts": _read_counts,
    "rate": _read_rate,
}
