"""Reading text files that users write, such as lists of class names or contexts."""

import io


def lines_of(path, what):
    r"""Return the lines of a UTF-8 file without their ends, and without a byte-order mark.

    Lines end in \n, \r\n or \r only. Blank ones are kept, so line numbers are right.

    Args:
        path: path of the file.
        what: what the file is, for messages, such as "A context file".

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8. The message names the file, and the line if there is one.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:200]:
        raise ValueError(f"{what} must be UTF-8; {path} is UTF-16, or no text: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{what} must be UTF-8; {path}, line {line} is not") from None
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]
