"""``python -m dicomnet`` is the program ``dicomnet``."""

from .cli import main

if __name__ == "__main__":
    main()
