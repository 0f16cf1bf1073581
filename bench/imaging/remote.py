"""What a file system says when something is not there or not allowed, as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.errors import DatasetError


@contextmanager
def said(uri: str) -> Iterator[None]:
    """Turn what opening or listing ``uri`` raises into a sentence with a remedy.

    On remote file systems whatever the client library raises is said: each has errors of its own.
    """
    remote = "://" in uri
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{uri} does not exist; restore it, or correct the images table") from error
    except IsADirectoryError as error:
        raise DatasetError(f"{uri} is a folder, not an image; correct the images table") from error
    except PermissionError as error:
        remedy = (
            "give your credentials the right to read it, or name others"
            if remote
            else "change its permissions"
        )
        raise DatasetError(f"{uri} may not be read; {remedy}") from error
    except ImportError as error:
        raise DatasetError(f"{uri}: {error}; for s3:// pip install 'wellbench[s3]'") from error
    except Exception as error:
        if not remote:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"{uri} cannot be read ({reason}); check its address, your credentials and the network"
        ) from error
