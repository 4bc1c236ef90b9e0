"""base/texts.py: lines of text files that users write."""

import pytest

from domainbed_carft.base.texts import lines_of


def test_only_line_ends_end_lines(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffa\u2028b\r\n\n c\x0cd\re\x85f\t".encode())
    assert lines_of(file, "A file") == ["a\u2028b", "", " c\x0cd", "e\x85f\t"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("dog\n".encode("utf-16"), "A file must be UTF-8; .*names.txt is UTF-16"),
        ("dog\n".encode("utf-16-le"), "is UTF-16, or no text"),
        ("dog\nchi\xean\n".encode("latin-1"), "A file must be UTF-8; .*names.txt, line 2 is not"),
    ],
)
def test_what_is_not_utf_8_is_named(content, words, tmp_path):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        lines_of(tmp_path / "names.txt", "A file")
