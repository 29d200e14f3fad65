"""Judge ingress: what is configured and out of support, and what comes of requests that were sent through it.

What is measured through an ingress counts when the same requests, sent straight to the same pod, show what they must.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from pytest_k8snet.cluster.ingress import NGINX, Ingress, NginxController
from pytest_k8snet.cluster.model import Cluster
from pytest_k8snet.cluster.nginx_keys import DIRECTIVES, JUDGED, KEYS, MEANT, UPSTREAM
from pytest_k8snet.expect.model import IngressExpectation, RouteExpectation, SysctlWant
from pytest_k8snet.judge.model import Judgement
from pytest_k8snet.record.facts import NodeFacts, RunningNginx
from pytest_k8snet.record.ingress import IngressRecord, RouteRecord, Series
from pytest_k8snet.record.restart import Restart

#: Implementations of the Gateway API by the beginning of their controllerName.
GATEWAYS = {
    "gateway.envoyproxy.io/": "Envoy Gateway",
    "io.cilium/": "Cilium",
    "istio.io/": "Istio",
    "traefik.io/": "Traefik",
    "gateway.nginx.org/": "NGINX Gateway Fabric",
    "konghq.com/": "Kong",
    "haproxy.org/": "HAProxy",
    "haproxy-ingress.github.io/": "HAProxy Ingress",
    "projectcontour.io/": "Contour",
    "networking.gke.io/": "GKE Gateway",
    "gateway.k8s.aws/": "AWS Load Balancer Controller",
    "application-networking.k8s.aws/": "AWS Gateway API Controller",
    "alb.networking.azure.io/": "Azure Application Gateway for Containers",
    "kgateway.dev/": "kgateway",
    "tigera.io/": "Calico (Envoy Gateway)",
    "eg.tigera.io/": "Calico (Envoy Gateway)",
    "agentgateway.dev/": "agentgateway",
    "ako.vmware.com/": "VMware Avi",
    "apisix.apache.org/": "Apache APISIX",
    "consul.hashicorp.com/": "Consul",
    "gateways.kuma.io/": "Kuma",
    "higress.io/": "Higress",
    "openshift.io/gateway-controller": "OpenShift (Istio)",
    "solo.io/gloo-gateway": "Gloo Gateway",
    "stunner.l7mp.io/": "STUNner",
}


def known_keys(cluster: Cluster) -> Judgement:
    """Judge that ingress-nginx knows every key of its ConfigMap: others it drops without a word."""
    found = _nginx(cluster)
    if isinstance(found, Judgement):
        return found
    judgement = Judgement(want="keys that ingress-nginx knows")
    for controller in found.nginx:
        for key in _keys(judgement, controller, found):
            meant = MEANT.get(key) or next(iter(difflib.get_close_matches(key, KEYS, 1, 0.85)), None)
            judgement.check(
                key in KEYS,
                f"ConfigMap {controller.config_map}: {controller.name} does not know the key {key} and ignores it"
                + (f"; {meant} is one" if meant else ""),
                command=_get(controller),
            )
    return judgement


def settings(cluster: Cluster, expect: IngressExpectation) -> Judgement:
    """Judge connections, buffers and HSTS of ingress-nginx against the profile; keys that are not set have the controller's own values."""
    found = _nginx(cluster)
    if isinstance(found, Judgement):
        return found
    if not expect.settings:
        judgement = Judgement.skipped("no profile wants a setting of ingress")
        for controller in found.nginx:
            if controller.values.get("upstream-keepalive-connections") == "0":
                judgement.advise(
                    f"ConfigMap {controller.config_map}: upstream-keepalive-connections 0: {controller.name} opens a connection to a pod "
                    "for every request"
                )
        return judgement
    judgement = Judgement(want="; ".join(f"{want.key} {want}" for want in expect.settings))
    for controller in found.nginx:
        if controller.keys is None:
            _keys(judgement, controller, found)
            continue
        for want in expect.settings:
            have = controller.values.get(want.key, JUDGED[want.key])
            judgement.check(
                _holds(have, want),
                f"{controller.name}: {want.key} {have or '(empty)'}{'' if want.key in controller.values else ' by default'}, want {want}",
                measured=have,
                wanted=want.value,
                command=_get(controller),
            )
    return judgement


def running(facts: NodeFacts, cluster: Cluster) -> Judgement:
    """Judge that nginx of the node's controllers runs with what their ConfigMap says: of a file that nginx refuses the old one stays."""
    found = _nginx(cluster)
    if isinstance(found, Judgement):
        return found
    if "nginx" in facts.errors:
        judgement = Judgement()
        judgement.error(f"{facts.node}: what nginx runs with was not read{facts.why('nginx')}")
        return judgement
    if facts.nginx is None:
        return _not_recorded()
    here = [(item, controller) for item in facts.nginx if (controller := _controller_of(item.pod, found)) is not None]
    if not here:
        return Judgement.skipped("no nginx of ingress-nginx runs on this node")
    judgement = Judgement(want="the values of the ConfigMap in nginx.conf")
    for item, controller in here:
        if controller.keys is None:
            _keys(judgement, controller, found)
        elif item.directives is None:
            judgement.error(f"{facts.node}: pod {item.pod}: {item.path} could not be read")
        else:
            judgement.checked += 1
            _in_force(judgement, facts.node, item, controller)
    return judgement


def _in_force(judgement: Judgement, node: str, item: RunningNginx, controller: NginxController) -> None:
    kept = controller.values.get("upstream-keepalive-connections") != "0"
    for keys, told, where in ((DIRECTIVES, item.directives, ""), (UPSTREAM, item.upstream, " of upstream_balancer")):
        for key, directive in keys.items():
            want = controller.values.get(key)
            # 0 worker connections are as many as there may be files; without kept connections their other settings are not written.
            if want is None or told is None or (key, want) == ("max-worker-connections", "0") or (keys is UPSTREAM and not kept):
                continue
            have = told.get(directive)
            judgement.check(
                have is not None and _plain(have) == _plain(want),
                f"{node}: pod {item.pod} runs with {directive} {have or '(none)'}{where}, and ConfigMap {controller.config_map} says {key} "
                f"{want}: the controller has not taken it; its log says why",
                measured=have,
                wanted=want,
                command=f"kubectl -n {item.pod.partition('/')[0]} exec {item.pod.partition('/')[2]} -- grep {directive} {item.path}",
            )


def _plain(value: str) -> str:
    """Return a value without the unit of seconds, which the controller adds, and without more blanks than it takes."""
    words = value.split()
    return re.sub(r"^(\d+)s$", r"\1", " ".join(words))


def _controller_of(pod: str, found: Ingress) -> NginxController | None:
    """Return the controller whose Deployment or DaemonSet has made a pod: its name is the beginning of the pod's, and the longest one."""
    made = [item for item in found.nginx if re.fullmatch(rf"{re.escape(item.name)}(-[a-z0-9]{{1,10}})?-[a-z0-9]{{5}}", pod)]
    return max(made, key=lambda item: len(item.name), default=None)


def support(cluster: Cluster) -> Judgement:
    """Name what brings requests into the cluster, and advise against what is out of support."""
    if cluster.ingress is None:
        return _not_recorded()
    found = cluster.ingress
    controllers = {**found.classes, **found.gateways}
    if not controllers and not found.nginx:
        if why := next(iter(found.unreadable.values()), None):
            return Judgement.beyond_reach(f"ingress controllers are not known: {why}")
        return Judgement.skipped("the cluster has no IngressClass, no GatewayClass and no ingress-nginx")
    judgement = Judgement(want="controllers that are maintained", checked=1)
    judgement.evidence.update(classes=dict(found.classes), gateways={name: _implementation(by) for name, by in found.gateways.items()})
    of_nginx = sorted(name for name, controller in found.classes.items() if controller == NGINX)
    for name in [item.name for item in found.nginx] or of_nginx:
        judgement.advise(
            f"{name} is ingress-nginx, which is retired: the last releases are 1.15.1, 1.14.5 and 1.13.9 of March 2026, its repository is "
            "archived, and no fix of a vulnerability will come; a Gateway API implementation replaces it (ingress2gateway converts)"
        )
    for name, controller in sorted(found.gateways.items()):
        if _implementation(controller) is None:
            judgement.remark(f"GatewayClass {name} is of {controller}, an implementation that is not known here")
    return judgement


def _nginx(cluster: Cluster) -> Ingress | Judgement:
    if cluster.ingress is None:
        return _not_recorded()
    if not cluster.ingress.nginx:
        if why := next(iter(cluster.ingress.unreadable.values()), None):
            return Judgement.beyond_reach(f"whether the cluster has ingress-nginx is not known: {why}")
        return Judgement.skipped("the cluster has no ingress-nginx")
    return cluster.ingress


def _keys(judgement: Judgement, controller: NginxController, found: Ingress) -> tuple[str, ...]:
    """Return the keys of a controller's ConfigMap; one that is not there is the controller's defaults."""
    if controller.keys is not None:
        judgement.checked += not controller.keys
        return controller.keys
    why = found.unreadable.get(f"ConfigMap {controller.config_map}")
    if why is not None:
        judgement.error(f"{controller.name}: ConfigMap {controller.config_map} was not read: {why}")
    else:
        judgement.checked += 1
        judgement.remark(f"{controller.name}: there is no ConfigMap {controller.config_map or 'named by its flags'}: everything is default")
    return ()


def _holds(have: str, want: SysctlWant) -> bool:
    if want.operator == "=":
        return have.split() == want.value.split()
    return have.isdecimal() and (int(have) >= int(want.value) if want.operator == ">=" else int(have) <= int(want.value))


def _implementation(controller: str) -> str | None:
    return next((name for start, name in GATEWAYS.items() if controller.startswith(start)), None)


def _get(controller: NginxController) -> str:
    namespace, _, name = (controller.config_map or "").partition("/")
    return f"kubectl -n {namespace} get configmap {name} -o yaml"


def _not_recorded() -> Judgement:
    return Judgement.beyond_reach("the record is of a version that did not read the cluster's ingress")


def reached(record: IngressRecord, expect: IngressExpectation) -> Judgement:
    """Judge that requests through an ingress are answered by the pod behind it, all of them."""

    def judge(judgement: Judgement, want: RouteExpectation, route: RouteRecord) -> None:
        about = f"{want.route.name}: {route.url} for {route.host}"
        if route.through is None:
            judgement.check(
                False,
                f"{about} is not answered by the pod behind it, {route.waited_s:g} s after its {want.route.made} was made: {route.first}",
                measured=route.first,
                command=_curl(route),
            )
            return
        judgement.evidence[want.route.name] = {
            "served_after_s": route.waited_s,
            "answered": f"{route.through.answered} of {route.through.asked}",
        }
        judgement.check(
            route.through.complete,
            f"{about}: {route.through.asked - route.through.answered} of {route.through.asked} requests were not answered by the pod: "
            f"{_counted(route.through.others)}",
            command=_curl(route),
        )
        if route.through.complete and route.through.asked < route.control.asked:
            judgement.remark(
                f"{about}: {route.through.asked} of {route.control.asked} requests could be sent in the time that there was, "
                "and straight to the pod all: answers are slow"
            )
        for take in route.incomplete:
            judgement.remark(
                f"{about}: {take.asked - take.answered} of {take.asked} requests were not answered: {_counted(take.others)}; not again"
            )

    return _each(record, expect, "every request is answered by the pod", judge, unreached=True)


def kept_to_pods(record: IngressRecord, expect: IngressExpectation) -> Judgement:
    """Judge that an ingress sends many requests over one connection to a pod."""

    def judge(judgement: Judgement, want: RouteExpectation, route: RouteRecord) -> None:
        series, control = route.through, route.control
        if series is None or not series.seen_requests:
            return
        judgement.evidence[want.route.name] = {"requests": series.seen_requests, "connections": series.seen_connections}
        if control.seen_connections != 1 or control.opened != 1:
            judgement.inconclusive(
                f"{want.route.name}: {control.seen_requests} requests straight to the pod were seen on {control.seen_connections} "
                f"connections, and {control.opened} were opened for them: what counts them does not tell"
            )
            return
        allowed = max(1, series.seen_requests // want.requests_per_connection.value)
        told = (
            f"{want.route.name}: {series.seen_requests} requests reached the pod over {series.seen_connections} connections "
            f"({_how(series)}), want {allowed} at most: {want.requests_per_connection.value} requests each "
            f"({want.requests_per_connection.origin})"
        )
        if allowed < series.seen_connections <= allowed + series.opened - 1:
            judgement.inconclusive(
                f"{told}; the client had to open {series.opened} itself (NET-INGRESS-006), and another process may have answered each time"
            )
            return
        judgement.check(
            series.seen_connections <= allowed, told, measured=series.seen_connections, wanted=allowed, command="ss -tn in the pod"
        )

    return _each(record, expect, "connections to pods are used again", judge)


def kept_for_clients(record: IngressRecord, expect: IngressExpectation) -> Judgement:
    """Judge that an ingress keeps a client's connection for all of its requests."""

    def judge(judgement: Judgement, want: RouteExpectation, route: RouteRecord) -> None:
        series, control = route.through, route.control
        if series is None or not series.answered:
            return
        judgement.evidence[want.route.name] = {"requests": series.asked, "connections": series.opened}
        if control.closed_after:
            judgement.inconclusive(
                f"{want.route.name}: a connection straight to the pod was closed after {control.closed_after[0]} requests as well"
            )
            return
        judgement.check(
            not series.closed_after,
            f"{want.route.name}: {route.url} closed the client's connection after {_some(series.closed_after)} requests, want it kept for "
            f"all {series.asked}",
            measured=series.opened,
            wanted=1,
            command=_curl(route),
        )

    return _each(record, expect, "one connection for all requests of a client", judge)


def headers(record: IngressRecord, expect: IngressExpectation) -> Judgement:
    """Judge that large headers pass an ingress, in requests and in answers."""

    def judge(judgement: Judgement, want: RouteExpectation, route: RouteRecord) -> None:
        if route.sent is None or route.returned is None:
            return
        size, about = route.header_bytes, f"{want.route.name}: {route.url}"
        if size != want.header_bytes.value:
            judgement.error(f"{want.route.name}: headers of {size} bytes were sent, and {want.header_bytes} are wanted")
            return
        if not route.control_sent.complete or not route.control_returned.complete or route.control_sent.seen_header_bytes != size:
            judgement.inconclusive(f"{want.route.name}: a header of {size} bytes does not even pass straight to the pod and back")
            return
        judgement.check(
            route.sent.complete and route.sent.seen_header_bytes == size,
            f"{about}: a request with a header of {size} bytes does not reach the pod whole: {_counted(route.sent.others) or 'cut'}, "
            f"want that it does ({want.header_bytes.origin}); ingress-nginx: large-client-header-buffers",
            measured=_counted(route.sent.others),
            command=_curl(route),
        )
        judgement.check(
            route.returned.complete,
            f"{about}: an answer of the pod with a header of {size} bytes does not come back: {_counted(route.returned.others)}, "
            f"want that it does ({want.header_bytes.origin}); ingress-nginx: proxy-buffer-size",
            measured=_counted(route.returned.others),
            command=_curl(route),
        )

    return _each(record, expect, "large headers pass both ways", judge)


def hsts(record: IngressRecord, expect: IngressExpectation) -> Judgement:
    """Judge that answers over TLS tell browsers to come back by TLS only."""
    if expect.routes and all(want.hsts_max_age is None for want in expect.routes):
        return Judgement.skipped("no profile wants HSTS of a way into the cluster (hsts_max_age in ingress.routes)")

    def judge(judgement: Judgement, want: RouteExpectation, route: RouteRecord) -> None:
        if want.hsts_max_age is None or route.through is None or not route.through.answered:
            return
        header = route.through.hsts
        age = None if header is None else re.search(r"(?i)(?:^|;)\s*max-age\s*=\s*\"?(\d+)", header)
        judgement.evidence[want.route.name] = header
        judgement.check(
            age is not None and int(age[1]) >= want.hsts_max_age.value,
            f"{want.route.name}: {route.url}: Strict-Transport-Security is {header or 'missing'}, want max-age "
            f"{want.hsts_max_age} at least",
            measured=header,
            wanted=want.hsts_max_age.value,
            command=_curl(route),
        )

    return _each(record, expect, "HSTS in answers over TLS", judge)


def restarted(record: IngressRecord, expect: IngressExpectation) -> Judgement:
    """Judge that no request fails while another pod takes over from the one behind an ingress."""
    restart = record.restart
    if expect.routes and record.absent is None:
        if restart is None:
            unreached = bool(record.routes) and all(route.through is None for route in record.routes)
            reason = "no request gets through: NET-INGRESS-004 judges that" if unreached else "no pod was replaced when this was measured"
            return Judgement.skipped(reason) if unreached else Judgement.beyond_reach(reason)
        if restart.new is None:
            return Judgement.skipped("there is one probe pod alone, and none that could take over from it")
        if restart.refused is not None:
            return Judgement.beyond_reach(f"the run may not change what its own Service leads to: {restart.refused}")

    def judge(judgement: Judgement, want: RouteExpectation, route: RouteRecord) -> None:
        assert restart is not None
        stream = restart.routes.get(route.name)
        if stream is None or route.through is None or not route.through.answered:
            return
        judgement.evidence[want.route.name] = {"answered": f"{stream.answered} of {stream.asked}", "by the new pod": stream.seen}
        if restart.control is None or restart.control.answered < restart.control.asked:
            judgement.inconclusive(f"{want.route.name}: not even straight to the pod on {record.backend} all requests were answered")
            return
        failed_s = [sent_s for sent_s in stream.failed_s if sent_s >= restart.changed_s]
        if not failed_s and not stream.seen:
            judgement.inconclusive(f"{want.route.name}: the pod on {restart.new} was to take over, and got no request")
            return
        if len(failed_s) < len(stream.failed_s):
            judgement.remark(f"{want.route.name}: {len(stream.failed_s) - len(failed_s)} requests failed before anything was changed")
        span = f", {_after(failed_s[0], restart)} to {_after(failed_s[-1], restart)} after it was led there" if failed_s else ""
        judgement.check(
            not failed_s,
            f"{want.route.name}: {route.url}: {len(failed_s)} of {stream.asked} requests failed while the pod on {restart.new} took over "
            f"from that on {record.backend}{span}: {_counted(stream.others)}; the old one went on for {restart.drain_s:g} s",
            measured=_counted(stream.others),
            command=_curl(route),
        )

    return _each(record, expect, "no request fails while pods take turns", judge)


def _after(sent_s: float, restart: Restart) -> str:
    return f"{sent_s - restart.changed_s:.1f} s"


_JudgeRoute = Callable[[Judgement, RouteExpectation, RouteRecord], None]


def _each(record: IngressRecord, expect: IngressExpectation, want: str, judge: _JudgeRoute, *, unreached: bool = False) -> Judgement:
    """Judge every route of the profile. One that does not answer is NET-INGRESS-004's alone, which is `unreached`."""
    if not expect.routes:
        return Judgement.skipped("no profile names a way into the cluster to send requests through (ingress.routes)")
    if record.absent is not None:
        return Judgement.beyond_reach(record.absent) if record.beyond else Judgement.skipped(record.absent)
    judgement = Judgement(want=f"{', '.join(item.route.name for item in expect.routes)}: {want}")
    measured = {route.name: route for route in record.routes}
    silent = []
    for item in expect.routes:
        route = measured.get(item.route.name)
        if route is None:
            judgement.error(f"{item.route.name}: was not measured; the record is of another profile")
        elif not route.control.complete:
            judgement.inconclusive(
                f"{item.route.name}: the pod on {record.backend} does not even answer the pod on {record.client} straight: "
                f"{_counted(route.control.others) or 'too slowly'}; NET-REACH-001 says more"
            )
        else:
            judge(judgement, item, route)
            silent += [item.route.name] if route.through is None or not route.through.answered else []
    if silent and not judgement.checked and not judgement.findings:
        judgement.skip_reason = f"requests do not get through {', '.join(silent)}: NET-INGRESS-004 judges that"
    return judgement


def _how(series: Series) -> str:
    """Say how the ingress asked the pod: what closes its connections is often in there."""
    connection = {name: count for name, count in series.seen_connection.items() if name}
    return ", ".join([*series.seen_protocols, *(f"Connection: {name}" for name in connection)])


def _counted(others: Mapping[str, int]) -> str:
    return ", ".join(f"{what} ({count})" for what, count in others.items())


def _some(numbers: tuple[int, ...], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (f" and {len(numbers) - most} more times" if len(numbers) > most else "")


def _curl(route: RouteRecord) -> str:
    at = urlsplit(route.url)
    return f"curl -vk --resolve {route.host}:{at.port}:{at.hostname} {at.scheme}://{route.host}:{at.port}/"
