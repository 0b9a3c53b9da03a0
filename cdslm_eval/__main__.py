"""`python -m cdslm_eval`: the command line."""

from cdslm_eval.cli import main

if __name__ == "__main__":
    main()
