"""`python -m conductor_ai.cli` is `conductor`: the embedded stack starts worker and API this way, without looking on PATH."""

from conductor_ai.cli import main

if __name__ == "__main__":
    main()
