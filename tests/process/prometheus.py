#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A real Prometheus scrapes `slabscope serve` and answers a query; promtool finds nothing to say."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import equal, eventually, fetch  # noqa: E402

CONFIG = """
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
scrape_configs:
  - job_name: slabscope
    static_configs: [ {{ targets: ["{target}"] }} ]
"""


def need(program):
    if shutil.which(program) is None:
        raise slabtest.Skip(f"{program} is not installed")


def query(url, expression):
    """The result vector of an instant query, as [(labels, value)]; empty if there is none yet."""
    status, text = fetch(url + "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    if status != 200:
        return []
    return [(row["metric"], float(row["value"][1])) for row in json.loads(text)["data"]["result"]]


def test_prometheus():
    need("prometheus")
    scratch = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "prometheus"
    scratch.mkdir()
    with slabtest.server() as exporter, \
            slabtest.dialog("live_objects", SLABSCOPE_APP="shop") as child:
        config = scratch / "prometheus.yml"
        config.write_text(CONFIG.format(target=exporter.removeprefix("http://")))
        port = slabtest.free_port()
        url = f"http://127.0.0.1:{port}"
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={scratch}/data",
                   f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        with open(scratch / "log", "w", encoding="utf-8") as log, \
                slabtest.process(command, stdout=log, stderr=log):
            eventually(lambda: fetch(url + "/-/ready")[0] == 200, "Prometheus is ready")
            selector = 'slabscope_cache_active_objects{app="shop",cache="malloc-112"}'
            slabtest.hears(child, "ready")
            eventually(lambda: query(url, 'slabscope_processes{app="shop"} == 1'), "it knows the app")
            rows = query(url, selector)
            before = rows[0][1] if rows else 0
            slabtest.tell(child)
            slabtest.hears(child, "allocated")
            eventually(lambda: query(url, f"{selector} == {before + 1000}"),
                       "Prometheus shows a thousand objects more")
            equal([value for _, value in query(url, 'up{job="slabscope"}')], [1.0], "up")


def test_promtool():
    need("promtool")
    with slabtest.server() as exporter, \
            slabtest.dialog("live_objects", SLABSCOPE_APP='quote " slash \\ newline \n umlaut ü') as child:
        slabtest.hears(child, "ready")
        page = eventually(lambda: "umlaut" in fetch(exporter + "/metrics")[1] and
                          fetch(exporter + "/metrics")[1], "the app appears")
        done = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, check=False,
                              capture_output=True, timeout=slabtest.DEADLINE)
        equal((done.returncode, done.stdout, done.stderr), (0, "", ""), "promtool check metrics")


def test_headers():
    """curl's view: the content type that Prometheus 3 insists on, HEAD, and refusals."""
    need("curl")
    with slabtest.server() as exporter:
        head = slabtest.run(["curl", "-sS", "-I", exporter + "/metrics"]).stdout.lower()
        slabtest.contains(head, "200 ok", "status of HEAD")
        slabtest.contains(head, "content-type: text/plain; version=0.0.4", "content type")
        equal(fetch(exporter + "/no-such-page")[0], 404, "status of a page that is not there")
        code = slabtest.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST",
                             "-d", "x", exporter + "/metrics"]).stdout
        equal(code in ("404", "405"), True, f"status of POST: {code}")


def test_a_process_that_ends_leaves_no_false_decrease():
    """Counters of an app never fall, however many of its processes come and go."""
    with slabtest.server() as exporter:

        def total():
            rows = (line for line in fetch(exporter + "/metrics")[1].splitlines()
                    if line.startswith("slabscope_cache_allocations_total{") and 'app="batch"' in line)
            return sum(float(line.rsplit(" ", 1)[1]) for line in rows)

        seen = 0.0
        for _ in range(8):
            slabtest.run([slabtest.PROGRAMS / "no_leak"], env=slabtest.preloaded(SLABSCOPE_APP="batch"))
            now = total()
            equal(now >= seen + 1000, True, f"allocations grow by at least 1000: {seen} -> {now}")
            seen = now


slabtest.main()
