"""Put a folder of instances on as many media as it takes, with a DICOMDIR on each, and read them all back.

python make_media.py studies disc 650m
"""

import sys
from pathlib import Path

from dicomnet.client import media_set
from dicomnet.config import parse_size

if len(sys.argv) != 4:
    sys.exit(__doc__)
folder, target, capacity = sys.argv[1:]
made = media_set.make([folder], Path(target), name="EXPORT", capacity=parse_size(capacity))
for medium in made:
    found = media_set.check(medium.path)
    print(f"{medium.path.name}: {medium.file_set_id}, {len(found.listed)} instances, whole: {found.is_whole}")
