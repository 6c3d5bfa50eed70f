"""The version of the server's programs, which is the client's too."""

from typing import Final

VERSION: Final = "0.2.0.dev0"
