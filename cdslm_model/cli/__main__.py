"""`python -m cdslm_model.cli`, which torchrun starts: `torchrun --nproc-per-node 8 -m cdslm_model.cli train ...`."""

from cdslm_model.cli import main

main()
