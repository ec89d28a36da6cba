"""slurm/serve.sbatch on a real Slurm: a node answers to the other hosts of the cluster, until scancel."""

import json
import re
import sys

from lab import Site
from toy import context_about

ASK = """import json, sys, urllib.error, urllib.request
url, key, body = sys.argv[1:]
request = urllib.request.Request(url + "answer", body.encode(), {"Content-Type": "application/json"})
if key:
    request.add_header("Authorization", "Bearer " + key)
try:
    print(urllib.request.urlopen(request, timeout=60).read().decode())
except urllib.error.HTTPError as error:
    print(error.code)"""


def test_a_job_serves_at_the_address_that_it_prints_until_it_is_cancelled(site: Site):
    """Breaks if the node listens where others do not reach it, if anybody may ask, or if scancel cuts the server off."""
    job = site.sbatch("--nodes=1 --cpus-per-task=2 slurm/serve.sbatch", "--model", f"toy={site.toy.model}")
    site.says(job, "serving toy at http://10.77.0.1")
    [url] = re.findall(r"serving toy at (\S+)", site.log(job))
    [key_file] = re.findall(r"the key is in (\S+)", site.log(job))
    assert site.cluster.run("stat", "-c", "%a", key_file) == "600"
    key = site.cluster.run("cat", key_file)
    assert len(key) == 64 and key not in site.log(job)
    body = json.dumps({"question": "Where was Ana born?", "context": context_about("Ana")})

    def asked(key: str) -> str:
        return site.cluster.run(sys.executable, "-c", ASK, url, key, body)

    assert json.loads(asked(key))["answers"] and asked("") == "401"
    site.cluster.run("scancel", job)
    assert site.cluster.ended(job, 60)["JobState"] == "CANCELLED"
    site.says(job, "the server has ended (code 0)", 30)
    assert site.cluster.run("ls", str(site.project)).find(".key") == -1, "the key is removed with its job"
