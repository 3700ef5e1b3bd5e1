"""The bill of materials and the licence notices of an image, written where its files are.

    inventory.py NAME     with VERSION and SOURCE_DATE_EPOCH in the environment

Takes what cyclonedx-py says of the image's Python packages, adds what their wheels carry inside (PEP 770)
and Debian's packages, and writes sbom.cdx.json (CycloneDX 1.6) and NOTICES.txt. The same input makes the
same bytes.
Raises SystemExit if the bill does not keep to the CycloneDX schema.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

PYTHON_BILL = Path("/build/python.cdx.json")
DPKG = Path("/build/dpkg-status")
VENV = Path("/image/packages/app/venv/lib")
OUT = Path("/image/code/app")
GPL = """\
This image contains PyAV, whose wheel brings FFmpeg with libx264 and libx265. These two are under the GNU
General Public License, version 2 or later, and FFmpeg was built with them. The image as a whole is therefore
distributed under the terms of the GNU General Public License, version 3, whose text is in
/usr/share/common-licenses/GPL-3; our own code stays under Apache-2.0. Corresponding sources:
https://pypi.org/project/av/ (PyAV {av}), https://github.com/PyAV-Org/pyav-ffmpeg (from which sources, and
how, its libraries are built), and this project's. Whoever passes the image on passes these terms on.
"""


def debian_packages(status: str) -> list[dict[str, str]]:
    """The installed packages of a dpkg status file: `Package`, `Version`, `Architecture` …, by name."""
    stanzas = (
        dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        for stanza in status.split("\n\n")
    )
    installed = [one for one in stanzas if one.get("Status") == "install ok installed"]
    return sorted(installed, key=lambda one: one["Package"])


def debian_components(packages: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    system = platform.freedesktop_os_release()
    distro = f"{system['ID']}-{system.get('VERSION_ID', '')}"
    for package in packages:
        qualifiers = {"arch": package["Architecture"], "distro": distro}
        url = PackageURL("deb", system["ID"], package["Package"], package["Version"], qualifiers)
        yield {
            "type": "library",
            "bom-ref": url.to_string(),
            "name": package["Package"],
            "version": package["Version"],
            "purl": url.to_string(),
        }


def carried(distribution: Distribution, parent: str) -> Iterator[dict[str, Any]]:
    """What is inside a wheel beside its own code: what its bill names, and libraries put into it."""
    for file in sorted(distribution.files or (), key=str):
        if file.parts[0].endswith(".libs"):
            kept = {"name": file.name.partition("-")[0], "description": f"in the wheel: {file}"}
            yield {"type": "library", "bom-ref": f"{parent}#{file.name}", **kept}
        if ".dist-info/sboms/" not in str(file) or file.suffix != ".json":
            continue
        bill = json.loads(file.read_text(encoding="utf-8"))
        if bill.get("bomFormat") != "CycloneDX":
            continue
        for number, component in enumerate(bill.get("components", ())):
            kept = {key: component[key] for key in ("name", "version", "purl") if key in component}
            yield {"type": "library", "bom-ref": f"{parent}#{file.name}-{number}", **kept}


def bill_of_materials(
    name: str,
    python: dict[str, Any],
    packages: Mapping[str, Distribution],
    debian: list[dict[str, str]],
) -> str:
    """The whole bill as JSON. `packages`: by normalized name."""
    root = python["metadata"]["component"]
    root |= {"type": "container", "name": f"calls-{name}", "version": os.environ["VERSION"]}
    for component in python["components"]:
        inside = list(carried(packages[normalized(component["name"])], component["bom-ref"]))
        if inside:
            component["components"] = [*component.get("components", ()), *inside]
    python["components"] += debian_components(debian)
    made = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    python["metadata"]["timestamp"] = made.isoformat()
    content = json.dumps(python, sort_keys=True)
    python["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"
    text = json.dumps(python, indent=1, sort_keys=True) + "\n"
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"the bill of materials is not CycloneDX 1.6: {fault}")
    return text


def notices(
    name: str, packages: Mapping[str, Distribution], debian: list[dict[str, str]], ours: str
) -> str:
    """Who made what is in the image, and on which terms."""
    parts = [f"Licences of what is in the image calls-{name} {os.environ['VERSION']}\n", ours]
    if "av" in packages:
        parts.append(GPL.format(av=packages["av"].version))
    for distribution in packages.values():
        about = distribution.metadata
        terms = about["License-Expression"] or (about["License"] or "").split("\n")[0]
        classes = [value for value in about.get_all("Classifier", ()) if value[:7] == "License"]
        head = f"{about['Name']} {distribution.version}\n{terms or '; '.join(classes)}\n"
        texts = [
            file.read_text(encoding="utf-8", errors="replace") for file in licences(distribution)
        ]
        parts.append("\n".join([head, *(text.strip() + "\n" for text in texts)]))
    system = [
        f"{one['Package']} {one['Version']}: /usr/share/doc/{one['Package']}/copyright"
        for one in debian
    ]
    parts.append("\n".join(["Packages of the system\n", *system, ""]))
    return f"\n{'=' * 80}\n\n".join(parts)


def licences(distribution: Distribution) -> list[Path]:
    words = ("licen", "copying", "notice", "authors")
    files = [
        Path(str(file.locate()))
        for file in distribution.files or ()
        if ".dist-info/" in str(file) and any(word in file.name.lower() for word in words)
    ]
    return sorted(file for file in files if file.is_file())


def normalized(name: str) -> str:
    """As PEP 503 has it."""
    return name.lower().replace("_", "-").replace(".", "-")


def main(name: str) -> None:
    site_packages = [str(path) for path in VENV.glob("python3.*/site-packages")]
    found = {normalized(one.metadata["Name"]): one for one in distributions(path=site_packages)}
    packages = dict(sorted(found.items()))
    debian = debian_packages(DPKG.read_text(encoding="utf-8"))
    bill = bill_of_materials(
        name, json.loads(PYTHON_BILL.read_text(encoding="utf-8")), packages, debian
    )
    (OUT / "sbom.cdx.json").write_text(bill, encoding="utf-8")
    text = notices(name, packages, debian, Path("LICENSE").read_text(encoding="utf-8"))
    (OUT / "NOTICES.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
