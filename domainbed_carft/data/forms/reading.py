"""What readers of all forms return, and its checks."""

from dataclasses import dataclass, field

from ...base.folders import composed, shown, some


@dataclass
class Reading:
    """The N images of a data set in another form than a folder DOMAIN/CLASS/IMAGE.

    Attributes:
        path: path of the data set.
        items: N items, as Images takes them.
        classes: N class names.
        domains: N domain names.
        lines: N line numbers from 1, or None if items have no lines.
        notes: sentences on what was left out.
    """

    path: str
    items: list = field(default_factory=list)
    classes: list = field(default_factory=list)
    domains: list = field(default_factory=list)
    lines: list | None = None
    notes: list = field(default_factory=list)

    def add(self, item, name, domain):
        """Add an image with its class and domain, whose names are stripped and composed (NFC)."""
        self.items.append(item)
        self.classes.append(composed(name.strip()))
        self.domains.append(composed(domain.strip()))

    def place(self, index):
        """Return where an image is listed, such as "line 7"."""
        if self.lines is not None:
            return f"line {self.lines[index]}"
        return shown(self.items[index])


def arranged(reading):
    """Return (class names, {domain: (items, labels)}), as in a folder DOMAIN/CLASS/IMAGE.

    Classes and domains are sorted by name. The images of a domain are sorted by class, and then
    stay in their order.

    Raises:
        ValueError: there are no images, a name is empty or spelled in two ways, or a domain lacks a
            class.
    """
    path = shown(reading.path)
    if not reading.items:
        raise ValueError(f"{path} lists no images")
    for what, names in (("class", reading.classes), ("domain", reading.domains)):
        _check_names(reading, what, names)
    classes, domains = sorted(set(reading.classes)), sorted(set(reading.domains))
    label = {name: i for i, name in enumerate(classes)}
    parts = {domain: [[] for _ in classes] for domain in domains}
    for item, name, domain in zip(reading.items, reading.classes, reading.domains):
        parts[domain][label[name]].append(item)
    for domain, by_class in parts.items():
        lacking = [name for name, items in zip(classes, by_class) if not items]
        if lacking:
            raise ValueError(
                f"Every domain of {path} must have images of every class: {shown(domain)} lacks "
                f"{some(lacking, 10)}"
            )
    return classes, {
        domain: (
            [item for items in by_class for item in items],
            [label for label, items in enumerate(by_class) for _ in items],
        )
        for domain, by_class in parts.items()
    }


def _check_names(reading, what, names):
    """Raise a ValueError if a name is empty, contains "/", or is spelled in two ways."""
    path, first = shown(reading.path), {}
    for i, name in enumerate(names):
        if name in first:
            continue
        first[name] = i
        if not name:
            raise ValueError(f"{path}, {reading.place(i)}: the {what} is empty")
        if what == "domain" and ("/" in name or name in (".", "..")):
            raise ValueError(
                f"{path}, {reading.place(i)}: a domain's name must be like that of a folder, got "
                f"{shown(name)!r}"
            )
    alike = {}
    for name, i in first.items():
        other = alike.setdefault(" ".join(name.casefold().split()), name)
        if other != name:
            raise ValueError(
                f"{path}: the {what} {shown(other)!r} ({reading.place(first[other])}) and "
                f"{shown(name)!r} ({reading.place(i)}) differ only in case or spaces: spell them "
                "alike"
            )
