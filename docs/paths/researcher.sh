#!/usr/bin/env bash
# A researcher's path: two systems and real speech in, a page, a comparison and a table for the paper out.
# Speech is made here by eSpeak (`pip install 'cdslm-eval[speech]'`) in the place of your own folders real/, ours/, theirs/.
set -euo pipefail
export CDSLM_EVAL_STORE=$PWD/rows.cdslm
cat > text.txt <<'TEXT'
The boats came home before the storm.
Nobody had expected so much rain in May.
She opened the old letter and read it twice.
A small dog slept under the long table.
We walked along the river until it was dark.
The baker sells warm bread on the corner.
TEXT
cdslm-eval generate speak:path=text.txt --count 12 --seconds 2 --out real
cdslm-eval generate babble:order=2,text=text.txt --count 12 --seconds 2 --out ours
cdslm-eval generate babble:order=0,text=text.txt --count 12 --seconds 2 --out theirs

# the answer on a page, and on the terminal
cdslm-eval score ours=ours theirs=theirs --reference real --metrics pjsd,signal --out report
# is the difference more than chance?
cdslm-eval compare ours=ours theirs=theirs --reference real --metrics pjsd
# a table for the paper; what was measured is read from the store
cdslm-eval score ours=ours theirs=theirs --reference real --metrics pjsd --format md > table.md
# what to cite with its numbers
cdslm-eval cite pjsd signal > references.bib
