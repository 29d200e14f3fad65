"""What nginx is told, by the objects of a cluster and the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_k8snet.lab import ingress_controller
from pytest_k8snet.lab.ingress import CLASS, TUNED, settings
from pytest_k8snet.lab.ingress_controller import Endpoints, configuration, refused, rules_of_ingresses, rules_of_routes, settings_of


def ingress(name: str, host: str, *, namespace: str = "ns", ingress_class: str = CLASS) -> dict[str, Any]:
    path = {"path": "/", "backend": {"service": {"name": "web", "port": {"number": 80}}}}
    spec = {"ingressClassName": ingress_class, "rules": [{"host": host, "http": {"paths": [path]}}]}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def web(*endpoints: tuple[str, bool], namespace: str = "ns") -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}
    ready = [{"addresses": [address], "conditions": {"ready": is_ready}} for address, is_ready in endpoints]
    return {"metadata": metadata, "ports": [{"name": "http", "port": 8718}], "endpoints": ready}


ONE = {"ns/a": ingress("a", "a.test")}
SLICES = {"ns/web-1": web(("10.0.0.1", True), ("10.0.0.2", False))}


def test_settings_are_directives_and_without_them_nginx_has_its_own_defaults() -> None:
    tuned = configuration(rules_of_ingresses(ONE, CLASS), SLICES, TUNED)
    assert "upstream upstream-0 { server 10.0.0.1:8718; keepalive 320; }" in tuned
    assert 'proxy_http_version 1.1; proxy_set_header Connection "";' in tuned
    for words in ("keepalive_requests 1000;", "large_client_header_buffers 4 32k;", "proxy_buffer_size 32k; proxy_buffers 4 32k;"):
        assert words in tuned
    assert "on 'max-age=31536000';" in tuned
    untuned = configuration(rules_of_ingresses(ONE, CLASS), SLICES, {})
    assert "upstream upstream-0 { server 10.0.0.1:8718; }" in untuned
    for directive in ("keepalive", "proxy_http_version", "client_header_buffers", "buffer_size", "max-age"):
        assert directive not in untuned


def test_only_ingresses_of_the_class_and_of_the_namespace_that_is_followed() -> None:
    found = {
        "ns/a": ingress("a", "a.test"),
        "ns/b": ingress("b", "b.test", ingress_class="other"),
        "ns/c": ingress("c", "c.test; }"),
        "other/d": ingress("d", "d.test", namespace="other"),
    }
    assert [
        host for host in ("a", "b", "c", "d") if f"server_name {host}.test;" in configuration(rules_of_ingresses(found, CLASS), SLICES, {})
    ] == ["a", "d"]
    followed = configuration(rules_of_ingresses(found, CLASS), SLICES, {"watch-namespace": "other"})
    assert [host for host in ("a", "d") if f"server_name {host}.test;" in followed] == ["d"]


def test_without_ready_endpoints_the_answer_is_503() -> None:
    for slices in ({}, {"ns/web-1": web(("10.0.0.1", False))}, {"other/web-1": web(("10.0.0.1", True), namespace="other")}):
        assert "server_name a.test; return 503; }" in configuration(rules_of_ingresses(ONE, CLASS), slices, {})


def test_what_is_in_force_is_told() -> None:
    assert 'location = /healthz { return 200 \'{"hsts-max-age": "5"}\'; }' in configuration([], {}, {"hsts-max-age": "5"})


def test_only_routes_of_the_gateway() -> None:
    def route(name: str, parent: dict[str, str], *hosts: str) -> dict[str, Any]:
        spec = {"parentRefs": [parent], "hostnames": [*hosts], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}
        return {"metadata": {"namespace": "ns", "name": name}, "spec": spec}

    found = {
        "ns/a": route("a", {"namespace": "ingress", "name": "nginx", "sectionName": "http"}, "a.test", "x; }"),
        "ns/b": route("b", {"name": "nginx"}, "b.test"),
        "ns/c": {"metadata": {"namespace": "ns", "name": "c"}, "spec": {"parentRefs": [{"namespace": "ingress", "name": "nginx"}]}},
    }
    assert [*rules_of_routes(found, "ingress/nginx")] == [("ns", "a.test", "web", 80)]
    assert [*rules_of_routes(found, "ns/nginx")] == [("ns", "b.test", "web", 80)]


def test_changed_endpoints_may_be_told_late() -> None:
    first, second = {"ns/web-1": web(("10.0.0.1", True))}, {"ns/web-1": web(("10.0.0.2", True))}
    at_once, late = Endpoints(), Endpoints()
    assert (at_once.take(first, 0.0, 1.0), at_once.take(second, 0.0, 2.0), at_once.pending) == (first, second, False)
    assert late.take({"ns/web-1": web()}, 60.0, 1.0) == {"ns/web-1": web()}
    assert late.take(first, 60.0, 2.0) == first, "what nobody was told of is no change"
    assert (late.take(second, 60.0, 3.0), late.pending) == (first, True)
    assert (late.take(second, 60.0, 62.9), late.pending) == (first, True)
    assert (late.take(second, 60.0, 63.1), late.pending) == (second, False)
    assert (late.take(first, 60.0, 64.0), late.pending) == (second, True)
    assert (late.take(second, 60.0, 65.0), late.take({}, 60.0, 66.0), late.pending) == (second, {}, False)


def test_settings_are_data_and_annotations_of_its_own() -> None:
    config_map = settings({"keep-alive": "75"}, {"k8snet.lab/watch-namespace": "shop", "else.example/x": "1"})
    assert settings_of(config_map) == {"keep-alive": "75", "watch-namespace": "shop"}
    assert settings_of({}) == {}


@pytest.mark.parametrize("takes", [True, False])
def test_what_nginx_says_of_a_file_that_it_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: bool) -> None:
    monkeypatch.setattr(ingress_controller, "NEW", tmp_path / "nginx.new")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    nginx = tmp_path / "nginx"
    nginx.write_text("#!/bin/sh\ngrep -q ' 32k;' $4 && exit 0\necho \"nginx: [emerg] $4:1\nnginx: test failed\" >&2\nexit 1\n")
    nginx.chmod(0o755)
    said = refused("large_client_header_buffers 4 32k;" if takes else "large_client_header_buffers 4 64kb;")
    assert said == (None if takes else f"nginx: [emerg] {tmp_path}/nginx.new:1; nginx: test failed")
