#!/usr/bin/env bash
# A CI engineer's path: a suite with gates, its plan, a run with JUnit and markdown, a record, and a run against the record.
# The system is a plain generator here; a suite of your own names folders with `path = "..."`.
set -euo pipefail
export CDSLM_EVAL_STORE=$PWD/rows.cdslm
cat > speech.toml <<'TOML'
name = "nightly"

[systems.candidate]
generator = "silence"
count = 6
seconds = 1.0

[metrics.signal]

[[gates]]
gate = "silence_share <= 1"
TOML
cdslm-eval run speech.toml --plan
cdslm-eval run speech.toml --junit junit.xml --markdown summary.md --out report
cdslm-eval record released.cdslm
cdslm-eval run speech.toml --against released.cdslm

# a gate that cannot pass ends with exit code 4, which blocks the merge
sed -i.bak 's/silence_share <= 1/duration > 60/' speech.toml
cdslm-eval run speech.toml && exit 1 || test $? -eq 4
