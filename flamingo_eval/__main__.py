"""python -m flamingo_eval"""

from flamingo_eval.cli import main

if __name__ == "__main__":
    main()
