#!/usr/bin/env bash
# A modeller's path: speech to shards, a model of one block, its continuations, their score; and a law through a table of runs.
# Needs the extras `speech` and `model`. A few steps of training: every part works, nothing is learnt.
set -euo pipefail
export CDSLM_EVAL_STORE=$PWD/rows.cdslm
cat > text.txt <<'TEXT'
The boats came home before the storm.
Nobody had expected so much rain in May.
She opened the old letter and read it twice.
A small dog slept under the long table.
TEXT
cdslm-eval generate speak:path=text.txt --count 8 --seconds 4 --out speech/train
cdslm-eval generate speak:path=text.txt --count 4 --seconds 4 --seed 1 --out speech/valid

cdslm params --depth 4
cdslm prepare speech/train --out shards/train
cdslm prepare speech/valid --out shards/valid
cdslm train --data shards/train --valid shards/valid --depth 1 --steps 4 --batch-size 4 \
  --context-seconds 1 --continuation-seconds 1 --device cpu --no-probe --out run
cdslm generate run --prompts speech/valid --count 4 --seconds 1 --steps 4 --out continuations
cdslm-eval score continuations --reference speech/valid --metrics signal --out report

# a sweep's run table; a ladder writes one, any other CSV with these columns will do
{
  echo n,d,loss
  for n in 1e6 4e6 1.6e7 6.4e7; do
    for d in 2e7 8e7 3.2e8 1.28e9; do
      awk -v n=$n -v d=$d 'BEGIN { printf "%s,%s,%.5f\n", n, d, 1.8 + 400 / n ^ 0.34 + 410 / d ^ 0.28 }'
    done
  done
} > runs.csv
cdslm-eval fit law runs.csv --metric loss --replicates 20 --out scaling
