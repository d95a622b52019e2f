"""Print a folder of images, two columns of three rows on a film, and wait until the films are out.

python print_images.py PRINTER@printer.local:104 studies
"""

import sys

import dicomnet as dn

if len(sys.argv) != 3:
    sys.exit(__doc__)
peer, folder = sys.argv[1:]
with dn.client.PrintScu(peer, calling="WS1") as printer:
    print(f"printer: {printer.printer().status}")
    done = printer.print(folder, film=dn.client.Film(layout="2x3", size="14INX17IN"), patience=60)
print(f"{done.images} images on {done.films} films: {', '.join(job.status for job in done.jobs)}")
for warning in done.warnings:
    print(warning)
