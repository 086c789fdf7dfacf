"""`python -m medscroll` is `medscroll`, so that `torchrun -m medscroll ...` is its distributed form."""

from medscroll.cli.main import run

if __name__ == "__main__":
    run()
