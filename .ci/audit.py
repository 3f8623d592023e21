"""Known vulnerabilities of the pinned packages, by pip-audit, where its advisories can be reached.

pip-audit says "No known vulnerabilities found" even if it could look up no package at all; this says how many it did.
"""

import json
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """1 if a package has a known vulnerability, else 0."""
    program = Path(sys.executable).with_name("pip-audit")
    options = ["--requirement", "constraints.txt", "--no-deps", "--disable-pip", "--format", "json", "--timeout", "5"]
    done = subprocess.run([program, *options], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"pip-audit: NOT RUN, the advisories cannot be reached ({done.stderr.strip()[-200:]})")
        return 0
    audited = [package for package in packages if "skip_reason" not in package]
    found = [(p["name"], p["version"], [v["id"] for v in p["vulns"]]) for p in audited if p["vulns"]]
    if not audited:
        print(f"pip-audit: NOT RUN, the advisories of none of {len(packages)} packages can be reached from here")
    else:
        print(
            f"pip-audit: {len(audited)} of {len(packages)} packages looked up, {len(found)} with known vulnerabilities"
        )
    for name, version, ids in found:
        print(f"  {name} {version}: {', '.join(ids)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
