"""Store a folder over four associations; run it again to send what an earlier run did not.

python store_folder.py ARCHIVE@pacs.local:11112 studies
"""

import sys

import dicomnet as dn

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, folder = sys.argv[1:]
failed = 0
with dn.client.StoreScu(peer, calling="SELF", associations=4, report="stored.jsonl", resume=True) as archive:
    for result in archive.send(folder):
        failed += not result.ok and result.outcome.value != "skipped"
        print(f"{result.name}: {result.outcome.value} {result.reason}".rstrip())
sys.exit(1 if failed else 0)
