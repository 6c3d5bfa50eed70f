"""The version of this package, which is the server's too."""

from typing import Final

VERSION: Final = "0.2.0.dev0"
