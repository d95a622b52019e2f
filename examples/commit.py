"""Store a folder, and have the archive take responsibility for it: only then may it be deleted here.

python commit.py ARCHIVE@pacs.local:11112 studies
"""

import sys

import dicomnet as dn

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, folder = sys.argv[1:]
with dn.client.StoreScu(peer, calling="SELF", commit=True) as archive:
    results = {result.name: result for result in archive.send(folder)}  # the last one of each counts
for name, result in results.items():
    print(f"{name}: {result.outcome.value} {result.reason}".rstrip())
sys.exit(any(result.outcome.value != "committed" for result in results.values()))
