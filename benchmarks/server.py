"""An API server of a simulated cluster, in a process of its own: `python -m benchmarks.server NODES FAULTY` prints its URL.

It answers what a run asks: lists in pages, ConfigMaps, pods that run as soon as they are made. Agents answer at
``/agents/NODE/ROLE/OP``, where a real run would have an exec over a WebSocket.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks import reach
from benchmarks.cluster import VERSION, SimulatedCluster
from pytest_k8snet.access.probes import NODE


class Server(ThreadingHTTPServer):
    """Holds the cluster's objects, those of the run among them."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cluster: SimulatedCluster) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cluster = cluster
        self.lists = {path: [json.dumps(item).encode() for item in items] for path, items in cluster.objects().items()}
        # Made before anybody asks: what the simulation costs is not to be measured with the run.
        ways = (("host", "facts"), ("pod", "facts"), ("host", "ipvs"), ("host", "activity"))
        self.answers = {(node, *way): cluster.answer(node, *way) for node in cluster.nodes for way in ways}
        self.made: dict[str, dict[str, Any]] = {}

    def get(self, path: str, query: dict[str, list[str]]) -> bytes:
        """Return a page of a list or an object; raise `KeyError` when there is none."""
        if path == "/version":
            return json.dumps({"gitVersion": VERSION}).encode()
        if path in self.lists:
            return _page(_selected(self.lists[path], query), query)
        if path in self.made:
            return json.dumps(self.made[path]).encode()
        parts = path.split("/")
        if parts[-2] == "configmaps":
            return json.dumps({"data": self.cluster.config_maps()[parts[4], parts[6]]}).encode()
        if parts[-2] == "serviceaccounts":
            return b"{}"
        items = [item for name, item in [*self.made.items()] if name.rpartition("/")[0] == path]
        return _page([json.dumps(item).encode() for item in items], query)

    def create(self, path: str, body: dict[str, Any]) -> bytes:
        """Keep an object; a pod runs at once."""
        if path.endswith("accessreviews"):
            body["status"] = {"allowed": True}
        else:
            if body.get("kind") == "Pod":
                node = self.cluster.nodes[body["metadata"]["annotations"][NODE]]
                running = [{"name": "probe", "ready": True, "state": {"running": {"startedAt": "2026-11-25T14:00:00Z"}}}]
                address = node.address if body["spec"]["hostNetwork"] else node.pod_ip(node.pods)
                body["status"] = {"phase": "Running", "podIP": address, "containerStatuses": running}
            self.made[f"{path}/{body['metadata']['name']}"] = body
        return json.dumps(body).encode()

    def remove(self, path: str) -> bytes:
        """Remove an object and everything in it."""
        for name in [name for name in self.made if name == path or name.startswith(f"{path}/")]:
            del self.made[name]
        return b"{}"


class Handler(BaseHTTPRequestHandler):
    """Answers requests, several on one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = 200
        try:
            if url.path.startswith("/agents/"):
                _, _, node, role, op = url.path.split("/")
                if op.startswith("traffic."):
                    answer = json.dumps(reach.answer(self.server.cluster, unquote(node), role, op, json.loads(body))).encode()
                else:
                    answer = self.server.answers[unquote(node), role, op]
            elif self.command == "POST":
                answer = self.server.create(url.path, json.loads(body))
            elif self.command == "DELETE":
                answer = self.server.remove(url.path)
            else:
                answer = self.server.get(url.path, parse_qs(url.query))
        except KeyError:
            status = 404
            answer = json.dumps({"kind": "Status", "reason": "NotFound", "message": f"{url.path} not found", "code": 404}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - names that the base class looks for


def _selected(items: list[bytes], query: dict[str, list[str]]) -> list[bytes]:
    """Return the items that have the label that is asked for; other selectors than ``key=value`` select everything."""
    key, is_equal, value = query.get("labelSelector", [""])[0].partition("=")
    if not is_equal or set(key) & set("!, ("):
        return items
    return [item for item in items if json.loads(item)["metadata"].get("labels", {}).get(key) == value]


def _page(items: list[bytes], query: dict[str, list[str]]) -> bytes:
    start, limit = int(query.get("continue", ["0"])[0]), int(query.get("limit", ["500"])[0])
    token = str(start + limit) if start + limit < len(items) else ""
    return b'{"items": [' + b",".join(items[start : start + limit]) + b'], "metadata": ' + json.dumps({"continue": token}).encode() + b"}"


def main() -> None:
    """Serve until killed."""
    server = Server(SimulatedCluster(int(sys.argv[1]), int(sys.argv[2])))
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
