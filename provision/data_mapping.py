"""``fedi2i.yaml`` as it comes with a kit: the participant fills in where its data is."""

from __future__ import annotations

from collections.abc import Iterable

_SITE = """\
# What this site decides for itself. No job can read or change it. No restart is needed: every job
# reads it anew. 'python -m provision check <this kit>' says whether it is complete.

# Data set name, as jobs call it, to the folder of this site that holds its manifest.json
# (docs/data.md says how to make one). Fill in, and take the '#' and the '{{}}' away.
datasets: {{}}
{examples}

# Folder for prepared slices; by default 'prepared' in the data folder, which must then be writable.
# cache: /data/fedi2i/prepared

# Send training losses step by step, for curves at the server. Round means of losses and validation
# metrics go along with every update in any case.
share_curves: true

# Send one picture panel of one validation patient per round. It shows patient data: leave it off.
share_images: false
"""

_SERVER = """\
# What the server decides for itself: model name, as jobs call it, to a file to start from.
models: {}
#   pretrained: /data/fedi2i/pretrained.pt
"""


def site_mapping(datasets: Iterable[str]) -> str:
    """A site's template; it names the data sets of the project and maps none."""
    examples = "\n".join(f"#   {name}: /data/fedi2i/{name}" for name in datasets)
    return _SITE.format(examples=examples)


def server_mapping() -> str:
    """The server's template; it is complete as it is."""
    return _SERVER
