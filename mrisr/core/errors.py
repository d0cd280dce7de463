"""The errors users see: one line each, with the exit code of the command line.

Exit codes: 0 done, 1 bad usage or failure, 2 bad input, 3 output problem, 8 some cases of a
batch or rows of a benchmark failed.
"""

from os import PathLike


class MrisrError(Exception):
    """Base of every error mrisr raises on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(MrisrError):
    """The call itself is wrong: an unknown model, a scale out of range, options that exclude each other."""


class InputError(MrisrError):
    """An input cannot be used. The message names the file, what was expected and what was found."""

    exit_code = 2

    def __init__(self, source: str | PathLike[str], *, expected: str, found: str) -> None:
        self.source, self.expected, self.found = str(source), expected, found
        super().__init__(f"{source}: expected {expected}, found {found}")


class OutputError(MrisrError):
    """An output cannot be written, or would destroy something. The message names the path."""

    exit_code = 3


#: How PyTorch's allocators, oneDNN and C++ say that memory is short; none has a class of its own.
_NO_MEMORY = ("alloc", "could not create a primitive", "could not create a memory")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means missing memory, of the machine or of a device.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    True
    >>> out_of_memory(RuntimeError("a defect"))
    False
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)


def one_line(error: BaseException) -> str:
    r"""An error as one printable line: the message of those raised on purpose, the kind and text of others.

    >>> one_line(ValueError("first\nsecond")), one_line(UsageError("no model"))
    ('ValueError: first second', 'no model')
    """
    if isinstance(error, MrisrError):
        text = str(error)
    elif out_of_memory(error):
        text = "out of memory"
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
