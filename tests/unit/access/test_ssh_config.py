from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.access.fake import fake_node
from pytest_k8snet.access.ssh_config import Mapped, SshConfig, SshTarget, read_map
from pytest_k8snet.cluster.model import Node
from pytest_k8snet.errors import AccessError, ConfigurationError
from pytest_k8snet.options import Settings

NODE = Node.from_json(
    {**fake_node("node-1").to_json(), "internal_ip": "10.0.0.1", "external_ip": "203.0.113.1", "hostname": "n1.example.com"}
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setattr("pytest_k8snet.access.ssh_config._SYSTEM_CONFIG", str(tmp_path / "system_config"))
    return home


def target(text: str | None = None, node: Node = NODE, environment: dict[str, str] | None = None, **settings: Any) -> SshTarget:
    """Return where `node` is with the configuration `text`."""
    if text is not None:
        Path("~/.ssh/config").expanduser().write_text(text)
    given = Settings(access="ssh", **settings)
    return SshConfig(given, environment or {}).target(node)


def test_without_a_configuration(home: Path) -> None:
    assert target() == SshTarget(
        host="10.0.0.1",
        port=22,
        user="me",
        known_as="10.0.0.1",
        known_hosts=(
            f"{home}/.ssh/known_hosts",
            f"{home}/.ssh/known_hosts2",
            "/etc/ssh/ssh_known_hosts",
            "/etc/ssh/ssh_known_hosts2",
        ),
        keys=(f"{home}/.ssh/id_rsa", f"{home}/.ssh/id_ecdsa", f"{home}/.ssh/id_ed25519"),
        named_keys=False,
        identities_only=False,
        agent=None,
        connect_timeout_s=10.0,
    )


CONFIG = """
Host node-1
    HostName 192.0.2.1
    Port 2222
    User admin
    IdentityFile ~/.ssh/%h_key
    IdentityFile "~/.ssh/second key"
    IdentitiesOnly yes
    IdentityAgent %d/agent
    UserKnownHostsFile ~/.ssh/%n_hosts /other
    GlobalKnownHostsFile none
    HostKeyAlias alias-of-%h
    ConnectTimeout 1m30s
"""


def test_every_key_of_a_configuration(home: Path) -> None:
    assert target(CONFIG) == SshTarget(
        host="192.0.2.1",
        port=2222,
        user="admin",
        known_as="alias-of-192.0.2.1",
        known_hosts=(f"{home}/.ssh/node-1_hosts", "/other"),
        keys=(f"{home}/.ssh/192.0.2.1_key", f"{home}/.ssh/second key"),
        named_keys=True,
        identities_only=True,
        agent=f"{home}/agent",
        connect_timeout_s=90.0,
    )


def test_our_own_settings_outweigh_the_configuration(tmp_path: Path) -> None:
    key, hosts = tmp_path / "key", tmp_path / "hosts"
    key.touch()
    hosts.touch()
    found = target(CONFIG, ssh_user="root", ssh_port=22, ssh_key=str(key), ssh_known_hosts=str(hosts), ssh_connect_timeout=3)
    assert (found.user, found.port, found.keys, found.known_hosts, found.connect_timeout_s) == ("root", 22, (str(key),), (str(hosts),), 3.0)
    assert found.host == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "settings", "host"),
    [
        ("", {}, "10.0.0.1"),
        ("", {"ssh_address": "external"}, "203.0.113.1"),
        ("", {"ssh_address": "hostname"}, "n1.example.com"),
        ("Host *\n HostName 192.0.2.9\n", {}, "192.0.2.9"),
        ("Host node-*\n HostName %h.internal\n", {}, "node-1.internal"),
        ("Host node-*\n User x\n", {"ssh_address": "external"}, "node-1"),
        ("Host * !node-1\n User x\nHost node-? !node-1\n HostName no\n", {}, "10.0.0.1"),
        ("Match originalhost node-1,node-2\n HostName 192.0.2.2\n", {}, "192.0.2.2"),
        ("Host 10.0.0.*\n HostName gateway\n", {}, "gateway"),
        ("Host node-1\n HostName 192.0.2.1\nHost mapped\n HostName 192.0.2.5\n", {"ssh_map": "node-1=mapped"}, "192.0.2.5"),
        ("Host node-1\n HostName 192.0.2.1\n", {"ssh_map": "node-2=mapped"}, "192.0.2.1"),
    ],
)
def test_which_name_is_looked_up(text: str, settings: dict[str, Any], host: str) -> None:
    assert target(text, **settings).host == host


def test_port_of_the_map_outweighs_all() -> None:
    assert target("Host *\n Port 1\n", ssh_port=2, ssh_map="node-1=h:3").port == 3
    assert target("Host *\n Port 1\n", ssh_port=2, ssh_map="node-1=h").port == 2
    assert target("Host *\n Port 1\n", ssh_map="node-1=h").port == 1


@pytest.mark.parametrize(("kind", "told"), [("internal", "InternalIP"), ("external", "ExternalIP"), ("hostname", "Hostname")])
def test_address_that_a_node_does_not_have(kind: str, told: str) -> None:
    bare = Node.from_json({**NODE.to_json(), "internal_ip": None, "external_ip": None, "hostname": None})
    with pytest.raises(AccessError, match=f"node-1: the node has no {told}; choose another with --k8snet-ssh-address, or name it in"):
        target(node=bare, ssh_address=kind)


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "$(reboot)", "a;b", "a'b", ""])
def test_address_that_is_none(host: str) -> None:
    hostile = Node.from_json({**NODE.to_json(), "hostname": host})
    with pytest.raises(AccessError, match="is no host name and no address"):
        target("Host *\n ProxyCommand nc %h %p\n", node=hostile, ssh_address="hostname")
    with pytest.raises(AccessError, match="is no host name and no address"):
        target("Host *\n HostName gateway\n ProxyCommand nc %h %n\n", node=hostile, ssh_address="hostname")


def test_names_with_other_letters_are_none_either() -> None:
    with pytest.raises(AccessError, match="is no host name and no address"):
        target(node=Node.from_json({**NODE.to_json(), "hostname": "ñode"}), ssh_address="hostname")


# ---- jump hosts


def test_jump_hosts_have_their_own_configuration() -> None:
    found = target("Host node-1\n ProxyJump ops@first:2201,second\nHost first\n HostName 192.0.2.7\n User no\nHost second\n User two\n")
    assert found.via is not None
    assert (found.via.user, found.via.host, found.via.port) == ("two", "second", 22)
    assert found.via.via is not None
    assert (found.via.via.user, found.via.via.host, found.via.via.port) == ("ops", "192.0.2.7", 2201)
    assert found.via.via.via is None
    assert str(found) == "me@node-1 through two@second through ops@192.0.2.7 port 2201"


@pytest.mark.parametrize(
    ("jump", "told"),
    [
        ("bastion", "root@bastion"),
        ("ops@bastion", "ops@bastion"),
        ("ssh://ops@bastion:2200", "ops@bastion port 2200"),
        ("[2001:db8::1]:2200", "root@2001:db8::1 port 2200"),
    ],
)
def test_jump_host_by_option(jump: str, told: str) -> None:
    found = target("Host *\n ProxyCommand nc\n", ssh_user="root", ssh_jump=jump, ssh_port=2222)
    assert str(found) == f"root@10.0.0.1 port 2222 through {told}"
    assert found.proxy_command is None


def test_no_jump_host_by_option() -> None:
    assert target("Host *\n ProxyJump bastion\n", ssh_jump="none").via is None
    assert target("Host *\n ProxyJump none\n").via is None


def test_a_jump_host_for_all_is_not_its_own() -> None:
    found = target("Host *\n ProxyJump bastion\n")
    assert found.via is not None
    assert (found.via.host, found.via.via) == ("bastion", None)


def test_jump_hosts_that_go_round_in_a_circle() -> None:
    with pytest.raises(ConfigurationError, match=r"the jump hosts go round in a circle: 10\.0\.0\.1 -> a -> b -> a"):
        target("Host a\n ProxyJump b\nHost b\n ProxyJump a\n", ssh_jump="a")


@pytest.mark.parametrize("jump", ["a b", "@", "host:port", "a,,b"])
def test_jump_host_that_is_none(jump: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no jump host; want \[USER@\]HOST\[:PORT\]"):
        target(ssh_jump=jump)


def test_proxy_command_gets_the_port_and_user_that_are_used() -> None:
    found = target("Host *\n ProxyCommand nc -X 5 %h %p %r 100%%\n", ssh_port=2222, ssh_user="root")
    assert found.proxy_command == "nc -X 5 10.0.0.1 2222 root 100%"
    assert target("Host *\n ProxyCommand none\n").proxy_command is None


# ---- agent


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        ("", "/run/env"),
        ("IdentityAgent none", None),
        ("IdentityAgent SSH_AUTH_SOCK", "/run/env"),
        ("IdentityAgent $OTHER", "/run/other"),
        ("IdentityAgent ${OTHER}", "/run/other"),
        ("IdentityAgent $MISSING", None),
        ("IdentityAgent /run/%r", "/run/me"),
    ],
)
def test_agents(line: str, agent: str | None) -> None:
    assert target(f"Host *\n {line}\n", environment={"SSH_AUTH_SOCK": "/run/env", "OTHER": "/run/other"}).agent == agent


# ---- files


def test_included_files(home: Path) -> None:
    """By name and by pattern; what stands after the line is still of the block before it; and the system's file comes last."""
    (home / ".ssh" / "conf.d").mkdir()
    (home / ".ssh" / "conf.d" / "1.conf").write_text("Host node-1\n User one\n")
    (home / ".ssh" / "conf.d" / "2.conf").write_text("Host node-1\n User two\n Port 2222\n")
    (home / ".ssh" / "own").write_text("ConnectTimeout 5\n")
    (home.parent / "system_config").write_text("User system\nConnectTimeout 7\n")
    text = (
        "Include conf.d/*.conf missing\nIdentityFile ~/for-all\nHost 10.*\n Include own\n IdentityFile ~/for-ten\nHost other\n User other\n"
    )
    found = target(text)
    assert (found.user, found.port, found.connect_timeout_s, found.keys) == ("one", 2222, 7.0, (f"{home}/for-all",))
    found = target(node=Node.from_json({**NODE.to_json(), "name": "node-2"}))
    assert (found.user, found.port, found.connect_timeout_s) == ("system", 22, 5.0)
    assert found.keys == (f"{home}/for-all", f"{home}/for-ten")


def test_file_that_includes_itself() -> None:
    with pytest.raises(ConfigurationError, match="config: Include goes round in a circle"):
        target("Include config\n")


def test_file_of_one_s_own_instead(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("Host *\n User own\n")
    assert target("Host *\n User no\n", ssh_config=str(own)).user == "own"
    assert target(ssh_config="none").user == getpass.getuser()


def test_known_hosts_in_a_folder_with_a_blank(home: Path) -> None:
    folder = home / "my files"
    folder.mkdir()
    (folder / "hosts").touch()
    found = target(f'Host *\n UserKnownHostsFile "{folder}/hosts"\n GlobalKnownHostsFile /a /b\n')
    assert found.known_hosts == (f"{folder}/hosts", "/a", "/b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("garbage\n", "Unparsable line garbage"),
        ("Host 'x\n", "Unparsable host 'x"),
        ("Host *\n Port ssh\n", "Port of 10.0.0.1: got 'ssh', want a port"),
        ("Host *\n ConnectTimeout soon\n", "ConnectTimeout of 10.0.0.1: got 'soon', want seconds"),
        ("Match host\n", "Missing parameter to Match"),
    ],
)
def test_configuration_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        target(text)


@pytest.mark.parametrize("setting", ["ssh_key", "ssh_known_hosts", "ssh_config"])
def test_files_that_are_not_there(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--k8snet-{setting.replace('_', '-')}: there is no file /no/such/file"):
        target(**dict[str, Any]({setting: "/no/such/file"}))


def test_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 1000620000")

    monkeypatch.setattr(getpass, "getuser", unknown)
    with pytest.raises(ConfigurationError, match="LOGNAME"):
        target("")


# ---- the map


def test_map(tmp_path: Path) -> None:
    text = "node-1=10.0.0.1:2222, node-2 = host ,node-3=[2001:db8::1]:22,node-4=2001:db8::1,node-5=[::1]"
    entries = {
        "node-1": Mapped("10.0.0.1", 2222),
        "node-2": Mapped("host", None),
        "node-3": Mapped("2001:db8::1", 22),
        "node-4": Mapped("2001:db8::1", None),
        "node-5": Mapped("::1", None),
    }
    assert read_map(text) == entries
    file = tmp_path / "map"
    file.write_text("# nodes\n\n" + text.replace(",", "  # one\n"))
    assert read_map(str(file)) == entries


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("node-1=", "--k8snet-ssh-map: got 'node-1=', want node=host"),
        ("=host", "--k8snet-ssh-map: got '=host', want node=host"),
        ("node-1=a b", "want node=host"),
        ("node-1=a:ssh", "want node=host"),
        ("node-1=a,node-1=b", "--k8snet-ssh-map: node-1 is named twice"),
        ("/no/such/map", "--k8snet-ssh-map: /no/such/map: No such file or directory; want a file, or node=host"),
    ],
)
def test_map_that_is_wrong(given: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        target(ssh_map=given)


def test_map_file_that_is_wrong_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("node-1=a\nnode-2 b\n")
    with pytest.raises(ConfigurationError, match=r"map:2: got 'node-2 b', want node=host"):
        target(ssh_map=str(tmp_path / "map"))
