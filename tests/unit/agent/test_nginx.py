"""What the agent reads of nginx.conf: files as ingress-nginx writes them by its template."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_k8snet.agent import agent
from pytest_k8snet.agent.agent import nginx_directives, nginx_file, read_regular

POD = "0::/kubepods.slice/kubepods-pod01234567_89ab_cdef_0123_456789abcdef.slice/cri-1.scope\n"

WRITTEN = """
# Configuration checksum: 7035283166422286411

# setup custom paths that do not require root access
pid /tmp/nginx/nginx.pid;

daemon off;

worker_processes 8;
worker_rlimit_nofile 1047552;
worker_shutdown_timeout 240s ;

events {
\tmulti_accept        on;
\tworker_connections  16384;
\tuse                 epoll;
}

http {
\tinit_by_lua_block {
\t\tcollectgarbage("collect")
\t\tconfiguration.nameservers = { "10.96.0.10" }
\t}
\tkeepalive_timeout  75s;
\tkeepalive_requests 1000;
\tlarge_client_header_buffers     4 8k;
\tproxy_set_header Authorization "Bearer secret";
\tlog_format upstreaminfo escape=json '{"time": "$time_iso8601", "keepalive_timeout": "5s"}';

\tupstream upstream_balancer {
\t\t### Attention!!!
\t\tserver 0.0.0.1; # placeholder
\t\tbalancer_by_lua_block {
\t\t\tbalancer.balance()
\t\t}
\t\tkeepalive 320;
\t\tkeepalive_time 1h;
\t\tkeepalive_timeout  60s;
\t\tkeepalive_requests 10000;
\t}

\t## start server _
\tserver {
\t\tserver_name _ ;
\t\tkeepalive_timeout 1s;
\t}
}
"""
DIRECTIVES = {
    "worker_connections": "16384",
    "keepalive_timeout": "75s",
    "keepalive_requests": "1000",
    "large_client_header_buffers": "4 8k",
}
UPSTREAM = {"keepalive": "320", "keepalive_time": "1h", "keepalive_timeout": "60s", "keepalive_requests": "10000"}


def test_what_ingress_nginx_writes() -> None:
    assert nginx_directives(WRITTEN) == {"directives": DIRECTIVES, "upstream": UPSTREAM}
    assert nginx_directives(WRITTEN.replace("\t\tkeepalive ", "\t\t# keepalive "))["upstream"] == {
        name: value for name, value in UPSTREAM.items() if name != "keepalive"
    }


def test_files_of_others() -> None:
    assert nginx_directives(None) == {"directives": None, "upstream": None}
    assert nginx_directives("") == {"directives": {}, "upstream": None}
    assert nginx_directives("http { server { keepalive_timeout 5s; } }") == {"directives": {}, "upstream": None}
    assert nginx_directives("keepalive_timeout 65;\n  server  {\nkeepalive_timeout 5s;")["directives"] == {"keepalive_timeout": "65"}


@pytest.mark.parametrize(
    ("cmdline", "want"),
    [
        ("nginx: master process /usr/bin/nginx -c /etc/nginx/nginx.conf\0\0\0", "/etc/nginx/nginx.conf"),
        ("nginx: master process nginx -g daemon off; -c /srv/nginx.conf", "/srv/nginx.conf"),
        ("nginx: master process nginx", "/etc/nginx/nginx.conf"),
        ("nginx: worker process", None),
        ("grep\0nginx: master process\0", None),
        ("", None),
    ],
)
def test_the_file_of_a_master_process(cmdline: str, want: str | None) -> None:
    assert nginx_file(cmdline) == want


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """Whoever runs an nginx chooses the path: opening a pipe would never end, and opening a device may do something."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "file").write_text("keepalive_timeout 75s;\n")
    (tmp_path / "good").symlink_to("file")
    assert [read_regular(str(tmp_path / name), 99) for name in ("pipe", "link", "missing", ".")] == [None] * 4
    assert read_regular("/dev/zero", 99) is None
    assert read_regular(str(tmp_path / "good"), 99) == "keepalive_timeout 75s;\n"
    assert read_regular(str(tmp_path / "good"), 9) == "keepalive"


def test_an_nginx_whose_file_is_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    texts = {"cmdline": f"nginx: master process nginx -c {tmp_path}/pipe", "cgroup": POD}
    monkeypatch.setattr(agent, "processes", lambda: [str(os.getpid())])
    monkeypatch.setattr(agent, "read_or_none", lambda path: texts.get(path.rpartition("/")[2]))
    monkeypatch.setattr(agent, "pod_names", dict)
    uid = "01234567-89ab-cdef-0123-456789abcdef"
    assert agent.nginx() == [{"directives": None, "upstream": None, "pod": uid, "path": f"{tmp_path}/pipe"}]
