"""The layout DOMAIN/CLASS/IMAGE: which domains and classes a folder has, or what is wrong."""

import os
from pathlib import Path

from ..base.folders import composed, folders_in, hidden_in, shown, some


def class_folders(root, domains):
    """Return {domain: {class: its folder's name}}, the classes in the same order in each.

    The order is that of the folders' names. Where one domain writes a name in another Unicode form
    than the next (macOS and Linux do), the classes have the composed form, in its order.

    Raises:
        ValueError: a domain without class folders, two folders of one name in two Unicode forms,
            or classes that differ from domain to domain; names the domain.
    """
    names = {domain: folders_in(os.path.join(root, domain)) for domain in domains}
    for domain, found in names.items():
        if not found:
            raise ValueError(
                f"No class folders in {root}/{shown(domain)}. Expected the layout "
                f"{root}/DOMAIN/CLASS/IMAGE."
            )
        forms = [composed(name) for name in found]
        twice = sorted({name for name in forms if forms.count(name) > 1})
        if twice:
            raise ValueError(
                f"{root}/{shown(domain)} has {twice[0]!r} twice, in two Unicode forms: merge the "
                "folders"
            )
    every = {composed(name) for found in names.values() for name in found}
    for domain, found in names.items():
        lacking = sorted(every - {composed(name) for name in found})
        if lacking:
            raise ValueError(
                f"Every domain of {root} must have the same class folders: {shown(domain)} lacks "
                f"{some(lacking, 10)}"
            )
    if len({tuple(found) for found in names.values()}) == 1:
        return {domain: dict(zip(found, found)) for domain, found in names.items()}
    return {
        domain: {composed(n): n for n in sorted(found, key=composed)}
        for domain, found in names.items()
    }


def check_readable_by_host(root, domains):
    """Refuse what DomainBed's own reader would take for more domains or classes, or number anew.

    Raises:
        ValueError: a hidden folder among the domains or classes; one class name in two Unicode
            forms.
    """
    hidden = [os.path.join(root, name) for name in hidden_in(root)]
    for domain in domains:
        folder = os.path.join(root, domain)
        hidden += [os.path.join(folder, name) for name in hidden_in(folder)]
    if hidden:
        raise ValueError(
            f"DomainBed would take {len(hidden)} hidden folders for domains or classes: remove "
            f"{some(hidden)}"
        )
    for domain, found in class_folders(root, domains).items():
        for name, folder in found.items():
            if name != folder:
                raise ValueError(
                    f"The class folders of {root} have names in two Unicode forms, and DomainBed "
                    f"would take {name!r} for two classes: rename "
                    f"{shown(Path(root, domain, folder))} to the composed form (NFC)"
                )
